"""A model: a module, where its weights come from, its family, its tokenizer."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import nn

from netweight.errors import ModelError
from netweight.models._family import Family, Feed, base_path, join
from netweight.models._rotated import RotatedSource
from netweight.models._weights import LiveSource, WeightSource, type_name
from netweight.provenance import sha256_of_file, sha256_of_json


@dataclass(frozen=True)
class Model:
    """What ``models.load`` gives. Immutable, but for the module's parameters, which ``materialize`` fills and ``release`` empties."""

    module: nn.Module
    source: str  # file, folder, hub name, or the class of a live module
    name: str
    kind: str  # "causal-lm", "encoder" or "module"
    family: Family
    config: Any  # transformers config, or None
    weights: WeightSource
    dtype: torch.dtype
    tied: Mapping[str, str] = field(default_factory=dict)  # parameter -> the one it shares
    open_tokenizer: Callable[[], Any] | None = None  # None when the source has no tokenizer
    named_blocks: tuple[str, ...] = ()  # of a plain module, in the order they run; see ``models.cut``

    @property
    def live(self) -> bool:
        """Are the weights in memory for good, so that there is nothing to stream?"""
        return isinstance(self.weights, LiveSource)

    @property
    def longest(self) -> int | None:
        """Tokens the model can read at once, as its config says; None where it does not say."""
        found = getattr(self.config, "max_position_embeddings", None)
        return found if isinstance(found, int) and found > 0 else None

    def tokenizer(self) -> Any:
        """The transformers tokenizer, opened once.

        Raises: ModelError: the source has none, or its files cannot be read.
        """
        return self._tokenizer

    @cached_property
    def _tokenizer(self) -> Any:
        if self.open_tokenizer is None:
            raise ModelError(
                f"{self.name} has no tokenizer in {self.source}; put tokenizer.json and tokenizer_config.json there, "
                "or for a live module pass models.load(module, tokenizer=...)"
            )
        try:
            return self.open_tokenizer()
        except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
            raise ModelError(f"cannot read the tokenizer of {self.name} in {self.source}: {error}") from error

    @cached_property
    def sha256(self) -> str:
        """Hash of the weight files; of names, types, shapes and bytes for a live module, as it is when first asked.

        A rotated model has the hash of what was rotated.
        """
        weights = self.weights.original if isinstance(self.weights, RotatedSource) else self.weights
        if isinstance(weights, LiveSource):
            return _hash_of_tensors(weights)
        if len(weights.files) == 1:
            return sha256_of_file(weights.files[0])
        return sha256_of_json({path.name: sha256_of_file(path) for path in weights.files})


def blocks(model: Model) -> tuple[str, ...]:
    """Dotted names of the blocks in order; ``("",)`` when the whole module is one block.

    Raises: ModelError: the family's path to the blocks is not in the module.
    """
    if not model.family.blocks:
        return model.named_blocks or ("",)
    path = join(base_path(model.module), model.family.blocks)
    try:
        container = model.module.get_submodule(path)
    except AttributeError as error:
        raise ModelError(f"{model.name} has no {path!r}, where a {model.family.name} model keeps its blocks") from error
    return tuple(f"{path}.{name}" for name, _ in container.named_children())


def feeds(model: Model, block: str) -> tuple[Feed, ...]:
    """The feeds of one block, with names from the root; those whose widths differ (grouped heads) are left out.

    Raises: ModelError: no such block, or the family's row names a layer that the block lacks.
    """
    if block not in blocks(model):
        raise ModelError(f"{block!r} is not a block of {model.name}")
    found = []
    for feed in model.family.feeds:
        absolute = Feed(join(block, feed.source), tuple(join(block, layer) for layer in feed.layers))
        try:
            width = _outputs(model.module.get_submodule(absolute.source))
            widths = {_inputs(model.module.get_submodule(layer)) for layer in absolute.layers}
        except AttributeError as error:
            raise ModelError(f"{block} of {model.name} is not a {model.family.name} block: {error}") from error
        if widths == {width}:
            found.append(absolute)
    return tuple(found)


def _outputs(module: nn.Module) -> int:
    weight = module.get_parameter("weight")
    return weight.shape[-1] if type(module).__name__ == "Conv1D" else weight.shape[0]


def _inputs(module: nn.Module) -> int:
    weight = module.get_parameter("weight")
    return weight.shape[0] if type(module).__name__ == "Conv1D" else weight.shape[1]


def _hash_of_tensors(source: WeightSource) -> str:
    digest = hashlib.sha256()
    for name in sorted(source.names()):
        tensor = source.load(name).contiguous().cpu()
        digest.update(f"{name} {type_name(tensor.dtype)} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()

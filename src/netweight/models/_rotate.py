"""A model that computes the same with its weights rotated, so that no channel of them stands out.

Two rotations can be taken into the weights for good (Ashkboos et al., QuaRot, arXiv 2404.00456, section 4, their first stage):

- of the residual stream: what writes it is multiplied with R, what reads it with R^T, and each RMS norm's weights go into the
  layers behind it, since R would otherwise stand between them;
- of attention's values, head by head: the value layer's outputs are multiplied with a matrix of their own in every block, and the
  layer that reads the heads with its transpose.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import nn

from netweight.errors import ModelError
from netweight.models._family import base_path, join
from netweight.models._hadamard import Rotation
from netweight.models._layers import Conv1D, kind_of, layers, matrix_shape
from netweight.models._model import Model, blocks
from netweight.models._rebind import emptied
from netweight.models._rotated import RotatedSource, Turn
from netweight.models._stream import check_complete, tied_names
from netweight.provenance import derived_seed


@dataclass(frozen=True)
class RotatedModel:
    """A rotated model and the layers whose weights that changed, in the order of the model."""

    model: Model
    layers: tuple[str, ...]


def rotate(model: Model, *, residual: bool, heads: bool, untie: bool, seed: int) -> RotatedModel:
    """The model with another weight source, from which its parts come rotated as they are asked for.

    The given model stays as it is, and is read from: a live module must not be changed while the rotated one is in use.

    Args:
      residual: rotate the stream that blocks add to.
      heads: rotate the values of every head.
      untie: give the head a weight of its own where it shares the embedding's.
      seed: of the signs; each rotation draws from a generator of its own.
    Raises:
      ModelError: the model cannot be rotated so; what ``residual_obstacle`` and ``heads_obstacle`` say.
    """
    for wanted, why in ((residual, residual_obstacle(model, untie=untie)), (heads, heads_obstacle(model))):
        if wanted and why:
            raise ModelError(f"{model.name} cannot be rotated: {why}")
    work = _Turns(model, seed)
    if residual:
        work.residual()
    if heads:
        work.heads()
    opener = model.open_tokenizer and model.tokenizer  # which stays open
    target = replace(model, module=emptied(model), open_tokenizer=opener)
    added = frozenset[str]()
    if residual and shares_embedding(model):
        target, added = _untied(target), frozenset({join(model.family.head, "weight")})
    dtype = model.dtype if model.dtype.itemsize >= torch.float32.itemsize else torch.float32
    turned = replace(target, weights=RotatedSource(model.weights, work.turns, frozenset(work.ones), added, dtype))
    check_complete(turned)
    return RotatedModel(turned, tuple(name for name in layers(turned) if join(name, "weight") in work.turns))


def residual_obstacle(model: Model, *, untie: bool) -> str:
    """Why the residual stream cannot be rotated, in words; "" where it can.

    Raises: ModelError: the model is not built as its family's row says.
    """
    if model.family.residual is None:
        return (
            f"in a {model.family.name} model it is not read by RMS norms alone"
            if model.family.blocks
            else "it is a module of no family known here"
        )
    if model.kind != "causal-lm" or model.family.head not in dict(model.module.named_children()):
        return "the model has no head that could take it back out of the last states"
    if shares_embedding(model) and not untie:
        return "the head shares the embedding's weight, into which the last norm cannot be folded"
    return ""


def heads_obstacle(model: Model) -> str:
    """Why the heads' values cannot be rotated, in words; "" where they can."""
    if not model.family.heads:
        return f"a {model.family.name} model has no attention known here"
    for block in blocks(model):
        for pair in model.family.heads:
            value, output = (_linear(model, join(block, name)) for name in (pair.value, pair.output))
            width, values = _head_width(model, output), matrix_shape(value)[0] // pair.shares
            if not width or values % width or matrix_shape(output)[1] % values:
                return (
                    f"{block} has {values} channels of values and {matrix_shape(output)[1]} that "
                    f"{getattr(model.config, 'num_attention_heads', 'no')} heads give"
                )
    return ""


def shares_embedding(model: Model) -> bool:
    """Does the head share the embedding's weight?"""
    return join(model.family.head, "weight") in model.tied


def head_bytes(model: Model) -> int:
    """Bytes a head of its own would take, in a 16-bit float type where the embedding is stored in one, else in the model's."""
    name = model.tied[join(model.family.head, "weight")]
    stored = {"F16": 2, "BF16": 2}.get(model.weights.stored_as(name) if name in model.weights.names() else "", 4)
    return model.module.get_parameter(name).numel() * min(stored, model.dtype.itemsize)


def with_stored_types(model: Model, rounded: frozenset[str]) -> Model:
    """A rotated model whose tensors come in the float type they were stored in, but for those about to be rounded anyway.

    Any other model is given back as it is.
    Args:
      rounded: names of the tensors that a step is going to round.
    """
    source = model.weights
    if not isinstance(source, RotatedSource):
        return model
    return replace(model, weights=source.with_small(frozenset(source.turns) - rounded))


class _Turns:
    """What every tensor becomes, collected layer by layer."""

    def __init__(self, model: Model, seed: int) -> None:
        self.model, self.seed = model, seed
        self.turns: dict[str, Turn] = {}
        self.ones: list[str] = []
        self.stored = frozenset(model.weights.names())

    def residual(self) -> None:
        model, row = self.model, self.model.family.residual
        if row is None:
            return
        base, head = base_path(model.module), model.family.head
        (stem,) = (join(base, name) for name in model.family.stem)
        turning = Rotation.random(matrix_shape(model.module.get_submodule(stem))[1], _generator(self.seed, "residual"))
        self._weight(stem, columns=turning)
        for block in blocks(model):
            for feed in row.norms:
                norm = self._norm(join(block, feed.source))
                for reader in feed.layers:
                    self._weight(join(block, reader), columns=turning, norm=norm)
            for writer in row.writers:
                self._weight(join(block, writer), rows=turning)
        self._weight(head, columns=turning, norm=self._norm(join(base, model.family.norm)))

    def heads(self) -> None:
        for block in blocks(self.model):
            for pair in self.model.family.heads:
                value, output = join(block, pair.value), join(block, pair.output)
                width = _head_width(self.model, _linear(self.model, output))
                turning = Rotation.random(width, _generator(self.seed, "heads", output))
                outputs = matrix_shape(_linear(self.model, value))[0]
                first = outputs - outputs // pair.shares
                self._weight(value, rows=turning, first_row=first)
                self._weight(output, columns=turning)

    def _weight(self, layer: str, **changes: Any) -> None:
        """Add to what a layer's weight becomes and, where its outputs turn, to its bias."""
        name, module = join(layer, "weight"), self.model.module.get_submodule(layer)
        if kind_of(module) != "embedding":
            module = _linear(self.model, layer)
        at = self.turns.get(name) or Turn(self._stored(layer), transposed=isinstance(module, Conv1D))
        self.turns[name] = replace(at, **changes)
        if "rows" in changes and (bias := join(layer, "bias")) in self.stored:
            self.turns[bias] = Turn(bias, rows=changes["rows"], first_row=changes.get("first_row", 0))

    def _stored(self, layer: str) -> str:
        """The name a layer's weight has in the source. Raises: ModelError: another layer shares it."""
        name = join(layer, "weight")
        owner = self.model.tied.get(name, name)
        group = [owner, *(other for other, first in self.model.tied.items() if first == owner)]
        head = join(self.model.family.head, "weight")
        if len(group) > 1 and set(group) != {owner, head}:
            raise ModelError(
                f"{self.model.name} cannot be rotated: {layer} shares its weight with {(set(group) - {name}).pop()}"
            )
        return next((member for member in group if member in self.stored), owner)

    def _norm(self, path: str) -> str:
        """The name of a norm's weights, which become ones. Raises: ModelError: it has others beside them."""
        module = _submodule(self.model, path)
        if (held := [name for name, _ in module.named_parameters()]) != ["weight"]:
            raise ModelError(
                f"{self.model.name} cannot be rotated: {path} holds {', '.join(held) or 'nothing'}, an RMS norm its weight"
            )
        self.ones.append(join(path, "weight"))
        return self.ones[-1]


def _untied(model: Model) -> Model:
    """The empty model with a head of its own."""
    head = model.module.get_submodule(model.family.head)
    shared = head.get_parameter("weight")
    head.register_parameter("weight", nn.Parameter(torch.empty_like(shared), requires_grad=False))
    config, own = copy.deepcopy(model.config), cast(Any, model.module.config)
    config.tie_word_embeddings = own.tie_word_embeddings = False
    return replace(model, config=config, tied=tied_names(model.module))


def _head_width(model: Model, output: nn.Module) -> int:
    """Channels of one head; 0 where the config does not say how many heads there are, or they do not fit."""
    count = getattr(model.config, "num_attention_heads", 0)
    inputs = matrix_shape(output)[1]
    return inputs // count if isinstance(count, int) and count > 0 and inputs % count == 0 else 0


def _linear(model: Model, name: str) -> nn.Module:
    module = _submodule(model, name)
    if kind_of(module) not in ("linear", "linear_transposed"):
        raise ModelError(f"{model.name} cannot be rotated: {name} is a {type(module).__name__}, not a linear layer")
    return module


def _submodule(model: Model, name: str) -> nn.Module:
    try:
        return model.module.get_submodule(name)
    except AttributeError as error:
        raise ModelError(f"{model.name} is not built like a {model.family.name} model: {error}") from error


def _generator(seed: int, *what: object) -> torch.Generator:
    """Its own for each rotation: what one draws does not shift what another does."""
    return torch.Generator().manual_seed(derived_seed(seed, *what))

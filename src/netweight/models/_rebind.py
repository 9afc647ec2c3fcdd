"""The same module, its weights from somewhere else: how an artifact is read back into the model it came from."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from netweight.models import _load
from netweight.models._layers import stored_layout
from netweight.models._model import Model
from netweight.models._stream import META, tied_names
from netweight.models._weights import LiveSource, WeightSource

ToWeight = Callable[[str, Tensor], Tensor]  # layer name, (O, I) matrix -> the weight as the module stores it
MakeSource = Callable[[Mapping[str, tuple[int, ...]], ToWeight], WeightSource]


def with_weights(model: Model, make: MakeSource, *, module: Literal["same", "copy"] = "same") -> Model:
    """The model emptied, to be filled from another source.

    Args:
      make: called with the shape of every tensor and a function that turns a matrix into a layer's own weight.
      module: empty the model's own module, or a copy of it.
    """
    target = copy.deepcopy(model.module) if module == "copy" else model.module
    _empty_all(target, dict(model.tied))
    return replace(model, module=target, weights=make(shapes_of(target, model.tied), to_weight_of(target)))


def copied(model: Model) -> Model:
    """The model with a module of its own, so that what is done to one is not seen in the other.

    A live module's tensors are copied. A streamed model's copy is empty, and filled from the same source.
    """
    module = copy.deepcopy(model.module) if model.live else emptied(model)
    weights = LiveSource(module) if model.live else model.weights
    return replace(model, module=module, weights=weights, open_tokenizer=model.open_tokenizer and model.tokenizer)


def emptied(model: Model) -> nn.Module:
    """A copy of the module with its own buffers and, shared as they are, empty parameters."""
    empty = {id(p): nn.Parameter(p.detach().to(META), requires_grad=False) for p in model.module.parameters()}
    return copy.deepcopy(model.module, empty)  # pyright: ignore[reportArgumentType]


def from_folder(folder: Path, make: MakeSource, *, dtype: torch.dtype = torch.float32) -> Model:
    """The model a folder's config.json and tokenizer describe, to be filled from another source.

    Raises: ModelError: no config.json there, or transformers does not know the model.
    """
    config = _load.read_config(folder, compressed="ignore")
    module, family = _load.empty_module(config, dtype)
    source = make(shapes_of(module, tied_names(module)), to_weight_of(module))
    _load.drop_absent(module, family, source)
    _load.set_generation(module, folder)
    return _load.assemble(module, family, config, source, dtype, _load.tokenizer_in(folder), str(folder))


def shapes_of(module: nn.Module, tied: Mapping[str, str]) -> dict[str, tuple[int, ...]]:
    return {
        name: tuple(t.shape) for name, t in module.state_dict().items() if name not in tied and isinstance(t, Tensor)
    }


def to_weight_of(module: nn.Module) -> ToWeight:
    modules = dict(module.named_modules())

    def to_weight(layer: str, matrix_OI: Tensor) -> Tensor:
        return stored_layout(modules[layer], matrix_OI).contiguous()

    return to_weight


def _empty_all(module: nn.Module, tied: dict[str, str]) -> None:
    made: dict[str, Any] = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        parent, _, leaf = name.rpartition(".")
        holder = module.get_submodule(parent)
        if leaf in holder._buffers:
            holder._buffers[leaf] = tensor.detach().to(META)
            continue
        owner = tied.get(name, name)
        if owner not in made:
            made[owner] = nn.Parameter(tensor.detach().to(META), requires_grad=False)
        holder._parameters[leaf] = made[owner]

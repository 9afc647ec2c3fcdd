"""Which tensors belong to which part of a model: what runs before the blocks, each block, and the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from netweight.errors import ModelError
from netweight.models._family import base_path, below, join
from netweight.models._layers import CONVS, TRANSPOSED_CONVS
from netweight.models._model import Model, blocks
from netweight.models._stream import named_tensor

FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def stem(model: Model) -> tuple[str, ...]:
    """Dotted names of what runs before the first block."""
    base = base_path(model.module)
    return tuple(join(base, part) for part in model.family.stem)


def rest(model: Model) -> tuple[str, ...]:
    """Dotted names of the modules that are neither stem nor block and hold tensors of their own: final norm, head, pooler."""
    before, inside = stem(model), blocks(model)
    names: list[str] = []
    for name in model.module.state_dict():
        if not below(name, before) and not below(name, inside):
            names.append(name.rpartition(".")[0])
    return tuple(dict.fromkeys(names))


def stored_tensors(model: Model, prefixes: Sequence[str]) -> dict[str, Tensor]:
    """Parameters and persistent buffers below these names in the type they are stored in; they may share the module's memory.

    A tensor that its source held in a smaller float type goes back to it when that loses nothing. Shared tensors come once,
    under their owner's name.
    """
    found = {}
    for name, tensor in model.module.state_dict(keep_vars=True).items():
        if name in model.tied or not isinstance(tensor, Tensor):
            continue
        if "" in prefixes or below(name, prefixes):
            found[name] = _smallest(model, name, tensor.detach())
    return found


def _smallest(model: Model, name: str, tensor: Tensor) -> Tensor:
    if name not in model.weights.names() or not tensor.is_floating_point():
        return tensor
    dtype = FLOATS.get(model.weights.stored_as(name))
    if dtype is None or dtype.itemsize >= tensor.dtype.itemsize:
        return tensor
    smaller = tensor.to(dtype)
    return smaller if torch.equal(smaller.to(tensor.dtype), tensor) else tensor


def stored_bytes(model: Model, layer: str) -> int:
    """Bytes a layer's weight takes where the model came from; 0 for one that shares another's."""
    name = join(layer, "weight")
    return 0 if name in model.tied or name not in model.weights.names() else model.weights.nbytes(name)


def kept_bytes(model: Model, name: str) -> int:
    """Bytes a tensor takes in an artifact when it is left as it is; 0 for one that shares another's.

    What the source held packed (GGUF blocks) is written in the type the model computes in.
    """
    if name in model.tied or name not in model.weights.names():
        return 0
    used, held = named_tensor(model.module, name), FLOATS.get(model.weights.stored_as(name))
    if not used.is_floating_point():
        return model.weights.nbytes(name)
    return used.numel() * min(used.dtype.itemsize, held.itemsize if held else used.dtype.itemsize)


def weight_name(layer: str) -> str:
    """Name of a layer's weight; the module itself may be the layer."""
    return join(layer, "weight")


def input_geometry(module: nn.Module) -> tuple[Any, ...]:
    """What beside the tensor itself decides the rows a layer reads: nothing for a linear layer."""
    if not isinstance(module, CONVS + TRANSPOSED_CONVS):
        return ()
    parts = (module.kernel_size, module.stride, module.padding, module.output_padding, module.dilation, module.groups)
    return (type(module).__name__, *parts)


def is_convolution(module: nn.Module) -> bool:
    return isinstance(module, CONVS + TRANSPOSED_CONVS)


def spatial_axes(module: nn.Module) -> int:
    """Of a convolution's input and output; 0 for other layers."""
    return len(module.kernel_size) if isinstance(module, CONVS + TRANSPOSED_CONVS) else 0


def first_tensor(output: Any) -> Tensor:
    """The output itself, or the first tensor in a tuple, list or mapping. Raises: ModelError: there is none."""
    if isinstance(output, Tensor):
        return output
    values = output.values() if isinstance(output, Mapping) else output if isinstance(output, tuple | list) else ()
    for value in values:
        if isinstance(value, Tensor):
            return value
    raise ModelError(
        f"the module gives a {type(output).__name__} without tensors; wrap it in a module whose forward gives a tensor, or a tuple "
        "or dict whose first tensor is what is to be matched"
    )

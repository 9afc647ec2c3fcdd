"""Layers with a weight matrix: which a model has, and each one's weight as (outputs, reduction)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from netweight.errors import ModelError
from netweight.models._model import Model, blocks
from netweight.models._stream import tied_names

CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED_CONVS = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
KINDS: tuple[tuple[type[nn.Module], str], ...] = (
    (nn.Linear, "linear"),
    (Conv1D, "linear_transposed"),  # GPT-2's: a linear layer that stores (inputs, outputs)
    (nn.Conv1d, "conv1d"),
    (nn.Conv2d, "conv2d"),
    (nn.Conv3d, "conv3d"),
    (nn.ConvTranspose1d, "conv_transpose1d"),
    (nn.ConvTranspose2d, "conv_transpose2d"),
    (nn.ConvTranspose3d, "conv_transpose3d"),
    (nn.Embedding, "embedding"),
)


@dataclass(frozen=True)
class Layer:
    """One layer that holds a weight matrix."""

    name: str
    kind: str  # the second column of KINDS
    shape: tuple[int, int]  # (O, I) of its matrix
    conv_groups: int  # 1 for everything but a grouped convolution
    block: str | None  # the block it is in; None for stem and head
    tied_to: str  # the earlier layer that holds the same weight, or ""


def layers(model: Model) -> dict[str, Layer]:
    """Every linear, convolution and embedding by name, in module order. Works on empty models.

    Weights that a module keeps outside such layers (the input projection of ``nn.MultiheadAttention``, recurrent cells) are
    not layers here.
    """
    names, owners = blocks(model), tied_names(model.module) | dict(model.tied)
    found = {}
    for name, module in model.module.named_modules(remove_duplicate=False):
        kind = kind_of(module)
        if kind is None:
            continue
        block = next((b for b in names if name == b or name.startswith(b + ".")), None) if names != ("",) else ""
        owner = owners.get(f"{name}.weight" if name else "weight", "")
        found[name] = Layer(name, kind, matrix_shape(module), conv_groups(module), block, owner.removesuffix(".weight"))
    return found


def kind_of(module: nn.Module) -> str | None:
    """``"linear"``, ``"conv2d"``, ...; None for a module that is not a layer."""
    return next((kind for cls, kind in KINDS if isinstance(module, cls)), None)


def conv_groups(module: nn.Module) -> int:
    return int(module.groups) if isinstance(module, CONVS + TRANSPOSED_CONVS) else 1


def matrix_shape(module: nn.Module) -> tuple[int, int]:
    """(O, I) of ``matrix_of(module)``, known for an empty module too."""
    if isinstance(module, CONVS + TRANSPOSED_CONVS):
        taps = int(torch.tensor(module.kernel_size).prod())
        return module.out_channels, module.in_channels // module.groups * taps
    weight = _weight(module)
    return (weight.shape[1], weight.shape[0]) if isinstance(module, Conv1D) else (weight.shape[0], weight.shape[1])


def matrix_of(module: nn.Module) -> Tensor:
    """The weight as (O, I): rows are outputs, columns the reduction.

    A convolution's columns run over its taps and, innermost, over the input channels of one group: (kh, kw, Cin / groups).
    An embedding's rows are the vocabulary. The result may share the parameter's memory.
    Raises: ModelError: not a layer.
    """
    weight = _weight(module).detach()
    if isinstance(module, Conv1D):
        return weight.T.contiguous()
    if isinstance(module, TRANSPOSED_CONVS):
        weight = _swap_channels(weight, module.groups)
    if isinstance(module, CONVS + TRANSPOSED_CONVS):
        return weight.movedim(1, -1).reshape(weight.shape[0], -1)
    return weight


def set_matrix(module: nn.Module, weight_OI: Tensor) -> None:
    """Write a matrix laid out as ``matrix_of`` gives it into the module's weight, in place, in the weight's own type.

    Raises: ModelError: not a layer, another shape, or an empty (``meta``) module.
    """
    weight, want = _weight(module), matrix_shape(module)
    if tuple(weight_OI.shape) != want:
        raise ModelError(f"a {type(module).__name__} needs a matrix of shape {want}, not {tuple(weight_OI.shape)}")
    if weight.device.type == "meta":
        raise ModelError(f"this {type(module).__name__} is empty; materialize it before setting its weight")
    with torch.no_grad():
        weight.copy_(stored_layout(module, weight_OI))


def is_row_major(module: nn.Module) -> bool:
    """Are the outputs of this module's matrix its rows? Not of GPT-2's layers, nor of a norm, which has none."""
    return kind_of(module) is not None and not isinstance(module, Conv1D)


def stored_layout(module: nn.Module, weight_OI: Tensor) -> Tensor:
    """A matrix as ``matrix_of`` gives it, in the shape of the module's own weight; differentiable."""
    if isinstance(module, Conv1D):
        return weight_OI.T
    if not isinstance(module, CONVS + TRANSPOSED_CONVS):
        return weight_OI  # a linear layer or an embedding
    per_group = module.in_channels // module.groups
    stored = weight_OI.reshape(module.out_channels, *module.kernel_size, per_group).movedim(-1, 1)
    return _swap_channels(stored, module.groups) if isinstance(module, TRANSPOSED_CONVS) else stored


def _swap_channels(weight: Tensor, groups: int) -> Tensor:
    """(groups * A, B, taps...) to (groups * B, A, taps...), group by group."""
    per_group = weight.unflatten(0, (groups, -1)).transpose(1, 2)
    return per_group.flatten(0, 1)


def _weight(module: nn.Module) -> nn.Parameter:
    if kind_of(module) is None:
        known = ", ".join(cls.__name__ for cls, _ in KINDS)
        raise ModelError(f"a {type(module).__name__} has no weight matrix here; layers are {known}")
    return module.get_parameter("weight")

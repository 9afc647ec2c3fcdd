"""Layers whose products are rounded: the classes they become, in place, and which layers become them.

A layer keeps its parameters, their names and its type (``isinstance(layer, nn.Linear)`` still holds); only its forward changes.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from netweight.errors import ModelError
from netweight.models import nets
from netweight.train._lsq import learned, weight_on_grid
from netweight.train._product import Rounding, in_float32, product
from netweight.train._shapes import ConvShape, LinearShape, MatMulShape, Rounder, Shape

FEWEST = 16  # channels of a group: one block
ATTRIBUTE = "quantization"


class _Rounded(nn.Module):
    """What all quantized layers share. ``quantization`` says how; LSQ adds the parameters weight_scale and input_scale, and input_least."""

    quantization: Rounding

    def _product(self, x: Tensor, shape: Shape, weight: Tensor, bias: Tensor | None) -> Tensor:
        def multiply(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
            if self.quantization.recipe.learned is not None:
                return shape.run(*learned(self, x, weight, self.quantization.recipe.learned), bias)
            return product(x, weight, bias, self.quantization, shape, training=self.training)

        return in_float32(multiply, x, weight, bias)


class Linear(_Rounded, nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return self._product(input, LinearShape(), self.weight, self.bias)


class _Conv(_Rounded, nn.modules.conv._ConvNd):
    def forward(self, input: Tensor) -> Tensor:
        single = input.dim() == self.weight.dim() - 1
        x = input.unsqueeze(0) if single else input
        if _padding(self) is None:
            mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
            x = functional.pad(x, self._reversed_padding_repeated_twice, mode=mode)
        shape = shape_of(self)
        y = self._product(x, shape, self.weight, self.bias)
        return y.squeeze(0) if single else y


class Conv1d(_Conv, nn.Conv1d): ...


class Conv2d(_Conv, nn.Conv2d): ...


class Conv3d(_Conv, nn.Conv3d): ...


class _ConvTranspose(_Rounded, nn.modules.conv._ConvTransposeNd):
    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        single = input.dim() == self.weight.dim() - 1
        x = input.unsqueeze(0) if single else input
        extra = self._output_padding(
            x,
            output_size,
            self.stride,  # pyright: ignore[reportArgumentType]
            self.padding,  # pyright: ignore[reportArgumentType]
            self.kernel_size,  # pyright: ignore[reportArgumentType]
            len(self.kernel_size),
            self.dilation,  # pyright: ignore[reportArgumentType]
        )
        shape = replace(shape_of(self), output_padding=tuple(extra))
        y = self._product(x, shape, self.weight, self.bias)
        return y.squeeze(0) if single else y


class ConvTranspose1d(_ConvTranspose, nn.ConvTranspose1d): ...


class ConvTranspose2d(_ConvTranspose, nn.ConvTranspose2d): ...


class ConvTranspose3d(_ConvTranspose, nn.ConvTranspose3d): ...


class MatMul(_Rounded, nets.MatMul):
    """Both factors are rounded as the recipe rounds inputs."""

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        if left.shape[:-2] != right.shape[:-2]:
            raise ModelError(
                f"a rounded product takes factors of equal leading sizes, not {tuple(left.shape)} and {tuple(right.shape)}"
            )
        if left.dim() == 2:
            return self.forward(left.unsqueeze(0), right.unsqueeze(0)).squeeze(0)
        rounding = replace(self.quantization, recipe=self.quantization.recipe.between_inputs())
        shape = MatMulShape(1 if self.training else left.shape[0])

        def multiply(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
            return product(x, weight, bias, rounding, shape, training=self.training)

        return in_float32(multiply, left, right, None)


KINDS: dict[type[nn.Module], type[_Rounded]] = {
    nn.Linear: Linear,
    nn.Conv1d: Conv1d,
    nn.Conv2d: Conv2d,
    nn.Conv3d: Conv3d,
    nn.ConvTranspose1d: ConvTranspose1d,
    nn.ConvTranspose2d: ConvTranspose2d,
    nn.ConvTranspose3d: ConvTranspose3d,
    nets.MatMul: MatMul,
}
PLAIN = {kind: plain for plain, kind in KINDS.items()}
PRODUCTS = (
    nn.Linear,
    nn.modules.conv._ConvNd,
    nn.Bilinear,
    nn.MultiheadAttention,
    nn.RNNBase,
    nn.RNNCellBase,
    nets.MatMul,
)


def why_not(module: nn.Module) -> str | None:
    """Why a layer with a product stays in full precision; None: it need not."""
    if type(module) not in KINDS:
        known = ", ".join(kind.__name__ for kind in KINDS)
        return f"its class {type(module).__name__} is not one of {known}"
    if isinstance(module, nets.MatMul):
        return None
    inputs, outputs = channels(module)
    if inputs == 1:
        return "depthwise: one input channel per group leaves nothing to share a scale"
    if min(inputs, outputs) < FEWEST:
        which = "reads" if inputs < FEWEST else "gives"
        return f"it {which} {min(inputs, outputs)} channels per group, less than one block of {FEWEST}"
    if not isinstance(module.weight, nn.Parameter):
        return "its weight is computed, not a parameter"
    return None


def channels(module: nn.Module) -> tuple[int, int]:
    """Input and output channels of one group."""
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    if isinstance(module, nn.modules.conv._ConvNd):
        return module.in_channels // module.groups, module.out_channels // module.groups
    return 0, 0


def forward_weight(module: nn.Module) -> Tensor:
    """The values that the forward product of a quantized layer takes for its weight, rounded to the nearest; no gradient."""
    rounding: Rounding = module.quantization  # pyright: ignore[reportAssignmentType]
    weight: Tensor = module.weight.detach()  # pyright: ignore[reportAssignmentType, reportCallIssue]
    if rounding.recipe.learned is not None:
        return weight_on_grid(weight, module.weight_scale.detach(), rounding.recipe.learned)  # pyright: ignore[reportCallIssue, reportArgumentType]
    rounder = Rounder(replace(rounding.recipe.forward_w, rounding="nearest"), kept=True)
    return shape_of(module).weight(weight, rounder, along_inputs=True)


def shape_of(module: nn.Module) -> Shape:
    """Where a layer's blocks lie; its padding is the one torch's own forward would use, or none where that pads beforehand."""
    if not isinstance(module, nn.modules.conv._ConvNd):
        return LinearShape()
    none = (0,) * len(module.kernel_size)
    return ConvShape(module.stride, _padding(module) or none, module.dilation, module.groups, module.transposed, none)


def _padding(module: nn.modules.conv._ConvNd) -> tuple[int, ...] | None:
    """Zeros on both sides of each axis that the product itself can add; None: there are others, which have to be there before it."""
    if module.padding_mode != "zeros":
        return None
    if module.padding == "valid":
        return (0,) * len(module.kernel_size)
    if module.padding == "same":
        both = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
        return None if any(total % 2 for total in both) else tuple(total // 2 for total in both)
    return tuple(module.padding)  # pyright: ignore[reportReturnType]


def become_rounded(module: nn.Module, rounding: Rounding) -> None:
    """The layer rounds from now on."""
    module.__class__ = KINDS[type(module)]
    setattr(module, ATTRIBUTE, rounding)
    if rounding.recipe.learned is not None:
        weight: Tensor = module.weight  # pyright: ignore[reportAssignmentType]
        most = 2 ** (rounding.recipe.learned - 1) - 1
        start = 2 * weight.detach().abs().mean().float() / most**0.5
        module.weight_scale = nn.Parameter(start.clamp(min=torch.finfo(torch.float32).tiny))
        module.input_scale = nn.Parameter(torch.zeros((), device=weight.device))  # 0: no input seen yet
        module.register_buffer("input_least", torch.zeros((), device=weight.device))


def become_plain(module: nn.Module) -> None:
    """The layer is again what it was, with the weights it has now."""
    module.__class__ = PLAIN[type(module)]  # pyright: ignore[reportArgumentType]
    delattr(module, ATTRIBUTE)
    for name in ("weight_scale", "input_scale"):
        if name in module._parameters:
            del module._parameters[name]
    module._buffers.pop("input_least", None)

"""A layer's three products, each from operands rounded as the recipe says."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from netweight.train._draws import Clock
from netweight.train._qat import Operand, Qat
from netweight.train._shapes import Rounder, Shape

HALF = (torch.float16, torch.bfloat16)


class Observer(Protocol):
    """Sees an operand before it is rounded, its format and the other arguments of ``formats.round_blocks``."""

    def __call__(self, layer: str, role: str, x: Tensor, format: str, how: dict[str, Any]) -> None: ...


@dataclass
class Rounding:
    """What a quantized layer carries beside its parameters."""

    name: str
    recipe: Qat
    clock: Clock
    observer: Observer | None = field(default=None, repr=False)

    def __deepcopy__(self, memo: dict[int, Any]) -> Rounding:
        return replace(self, clock=copy.deepcopy(self.clock, memo), observer=None)


@dataclass(frozen=True)
class _Call:
    """One run of a layer: how to round an operand now."""

    rounding: Rounding
    shape: Shape
    step: int
    call: int

    def operand(self, role: str) -> Operand | None:
        """None: the one of the forward product serves."""
        found = getattr(self.rounding.recipe, role)
        if not isinstance(found, Operand):
            return None
        same = role == "dgrad_w" and found == self.rounding.recipe.forward_w and found.rounding == "nearest"
        return None if same and Rounder(found).square else found  # squares are the same for W and its transpose

    def rounder(self, role: str) -> Rounder:
        operand: Operand = getattr(self.rounding.recipe, role)
        name, clock, observer = self.rounding.name, self.rounding.clock, self.rounding.observer
        seed = 0 if operand.rounding == "nearest" else clock.seed_of(name, role, self.step, self.call)
        seen = None if observer is None else lambda *what: observer(name, role, *what)
        return Rounder(operand, seed, seen, kept=role.endswith("_w"))

    def channels(self, role: str, x: Tensor, samples: int = 1) -> Tensor:
        return self.shape.channels(x, self.rounder(role), samples)

    def positions(self, role: str, x: Tensor) -> Tensor:
        return self.shape.positions(x, self.rounder(role))

    def weight(self, role: str, w: Tensor) -> Tensor:
        return self.shape.weight(w, self.rounder(role), along_inputs=role == "forward_w")


def in_float32(
    multiply: Callable[[Tensor, Tensor, Tensor | None], Tensor], x: Tensor, weight: Tensor, bias: Tensor | None
) -> Tensor:
    """``multiply(x, weight, bias)`` of float32 operands, also under autocast and where one comes in half precision; of x's type again."""
    if x.dtype in HALF or weight.dtype in HALF or torch.is_autocast_enabled(x.device.type):
        with torch.autocast(x.device.type, enabled=False):
            return multiply(x.float(), weight.float(), None if bias is None else bias.float()).to(x.dtype)
    return multiply(x, weight, bias)


def product(
    x: Tensor, weight: Tensor, bias: Tensor | None, rounding: Rounding, shape: Shape, *, training: bool
) -> Tensor:
    """The layer's output; gradients come from the recipe's other two products.

    When not training, x has a second-level scale for each slice of its first dimension, so that a sample's output does not depend
    on what else is in the batch; in training it has one, as hardware takes it.
    """
    clock = rounding.clock
    graded = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    call = _Call(rounding, shape, clock.step, clock.call(rounding.name) if graded else 0)
    samples = 1 if training or x.dim() == 1 else x.shape[0]
    if not graded:
        return shape.run(call.channels("forward_x", x, samples), call.weight("forward_w", weight), bias)
    return _Product.apply(x, weight, bias, call, samples)  # pyright: ignore[reportReturnType]


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, call: _Call, samples: int):  # pyright: ignore[reportIncompatibleMethodOverride]
        x_there, w_there = call.channels("forward_x", x, samples), call.weight("forward_w", weight)
        ctx.call = call
        ctx.save_for_backward(
            x if call.operand("wgrad_x") is not None else x_there,
            weight if call.operand("dgrad_w") is not None else w_there,
        )
        return call.shape.run(x_there, w_there, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx, g):  # pyright: ignore[reportIncompatibleMethodOverride]
        with torch.autocast(g.device.type, enabled=False):  # somebody may call backward() where the forward pass was
            return _Product._gradients(ctx, g)

    @staticmethod
    def _gradients(ctx, g):
        call: _Call = ctx.call
        x, w = ctx.saved_tensors
        for_x, for_w, for_bias = ctx.needs_input_grad[:3]
        to_x = to_w = None
        g_x = call.channels("dgrad_g", g) if for_x else g
        g_w = call.positions("wgrad_g", g) if for_w else g
        w_x = call.weight("dgrad_w", w) if for_x and call.operand("dgrad_w") is not None else w
        x_w = call.positions("wgrad_x", x) if for_w and call.operand("wgrad_x") is not None else x
        if for_x and for_w and g_x is g_w:
            to_x, to_w = call.shape.both_gradients(g, x_w, w_x)
        else:
            to_x = call.shape.input_gradient(g_x, x, w_x) if for_x else None
            to_w = call.shape.weight_gradient(g_w, x_w, w) if for_w else None
        return to_x, to_w, call.shape.bias_gradient(g) if for_bias else None, None, None

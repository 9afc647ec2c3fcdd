"""Learned scales (LSQ): v^ = s clip(round(v / s), -Q_n, Q_p), one scale for a weight and one for what a layer reads.

Gradients: dv^/dv is 1 inside the range and 0 outside; dv^/ds is round(v / s) - v / s inside, -Q_n or Q_p outside, times
1 / sqrt(N Q_p) for N weights, or values of one sample. Source: Esser et al., arXiv 1902.08153, section 2.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def learned(module: nn.Module, x: Tensor, weight: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """x and the weight on their learned grids. The first input the layer sees in training sets the input's scale: 2 E|x| / sqrt(Q_p)."""
    input_scale: Tensor = module.input_scale  # pyright: ignore[reportAssignmentType]
    weight_scale: Tensor = module.weight_scale  # pyright: ignore[reportAssignmentType]
    most = 2 ** (bits - 1) - 1
    if module.training and x.numel() and float(input_scale.detach()) == 0:
        with torch.no_grad():
            input_scale.copy_((2 * x.detach().abs().mean() / most**0.5).clamp(min=torch.finfo(torch.float32).tiny))
    there = _Lsq.apply(weight, weight_scale, bits, weight.numel())
    if float(input_scale.detach()) == 0:
        return x, there  # pyright: ignore[reportReturnType]
    return _Lsq.apply(x, input_scale, bits, _of_a_sample(x)), there  # pyright: ignore[reportReturnType]


def _of_a_sample(x: Tensor) -> int:
    """How many values one sample has; a vector is one."""
    return (x.shape[1:] if x.dim() > 1 else x.shape).numel()


def on_grid(v: Tensor, scale: Tensor, bits: int) -> Tensor:
    """s clip(round(v / s), -Q_n, Q_p)."""
    return (v / scale).round().clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) * scale


class _Lsq(torch.autograd.Function):
    @staticmethod
    def forward(ctx, v, scale, bits: int, count: int):  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.save_for_backward(v, scale)
        ctx.bits, ctx.count = bits, count
        return on_grid(v, scale, bits)

    @staticmethod
    def backward(ctx, g):  # pyright: ignore[reportIncompatibleMethodOverride]
        v, scale = ctx.saved_tensors
        low, high = -(2 ** (ctx.bits - 1)), 2 ** (ctx.bits - 1) - 1
        units = v / scale
        inside = (units > low) & (units < high)
        to_v = torch.where(inside, g, 0.0) if ctx.needs_input_grad[0] else None
        if not ctx.needs_input_grad[1]:
            return to_v, None, None, None
        by_scale = torch.where(inside, units.round() - units, units.clamp(low, high))
        return to_v, (g * by_scale).sum() / (ctx.count * high) ** 0.5, None, None

"""Learned scales (LSQ): v^ = s clip(round(v / s), -Q_n, Q_p), one scale for a weight and one for what a layer reads.

Weights are signed: Q_n = 2^(b-1), Q_p = Q_n - 1. So are inputs, unless the first batch in training has nothing below 0, as after a ReLU:
Q_n = 0, Q_p = 2^b - 1.

Gradients: dv^/dv is 1 inside the range and 0 outside; dv^/ds is round(v / s) - v / s inside, -Q_n or Q_p outside, times
1 / sqrt(N Q_p) for N weights, or values of one sample. Source: Esser et al., arXiv 1902.08153, section 2.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

Ends = tuple[int, int]


def learned(module: nn.Module, x: Tensor, weight: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """x and the weight on their learned grids. The first input the layer sees in training sets the input's range, and its scale: 2 E|x| / sqrt(Q_p)."""
    input_scale: Tensor = module.input_scale  # pyright: ignore[reportAssignmentType]
    input_least: Tensor = module.input_least  # pyright: ignore[reportAssignmentType]
    weight_scale: Tensor = module.weight_scale  # pyright: ignore[reportAssignmentType]
    if module.training and x.numel() and float(input_scale.detach()) == 0:
        with torch.no_grad():
            input_least.fill_(0 if float(x.detach().min()) >= 0 else -(2 ** (bits - 1)))
            _, most = _ends(float(input_least), bits)
            input_scale.copy_((2 * x.detach().abs().mean() / most**0.5).clamp(min=torch.finfo(torch.float32).tiny))
    there = _Lsq.apply(weight, weight_scale, _signed(bits), weight.numel())
    if float(input_scale.detach()) == 0:
        return x, there  # pyright: ignore[reportReturnType]
    ends = _ends(float(input_least), bits)
    return _Lsq.apply(x, input_scale, ends, _of_a_sample(x)), there  # pyright: ignore[reportReturnType]


def _of_a_sample(x: Tensor) -> int:
    """How many values one sample has; a vector is one."""
    return (x.shape[1:] if x.dim() > 1 else x.shape).numel()


def weight_on_grid(weight: Tensor, scale: Tensor, bits: int) -> Tensor:
    """s clip(round(v / s), -Q_n, Q_p)."""
    return _on_grid(weight, scale, _signed(bits))


def _on_grid(v: Tensor, scale: Tensor, ends: Ends) -> Tensor:
    return (v / scale).round().clamp(*ends) * scale


def _ends(least: float, bits: int) -> Ends:
    """-Q_n and Q_p."""
    return int(least), int(least) + 2**bits - 1


def _signed(bits: int) -> Ends:
    return _ends(-(2 ** (bits - 1)), bits)


class _Lsq(torch.autograd.Function):
    @staticmethod
    def forward(ctx, v, scale, ends: Ends, count: int):  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.save_for_backward(v, scale)
        ctx.ends, ctx.count = ends, count
        return _on_grid(v, scale, ends)

    @staticmethod
    def backward(ctx, g):  # pyright: ignore[reportIncompatibleMethodOverride]
        v, scale = ctx.saved_tensors
        low, high = ctx.ends
        units = v / scale
        inside = (units > low) & (units < high)
        to_v = torch.where(inside, g, 0.0) if ctx.needs_input_grad[0] else None
        if not ctx.needs_input_grad[1]:
            return to_v, None, None, None
        by_scale = torch.where(inside, units.round() - units, units.clamp(low, high))
        return to_v, (g * by_scale).sum() / (ctx.count * high) ** 0.5, None, None

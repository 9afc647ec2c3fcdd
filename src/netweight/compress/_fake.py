"""Quantize and decode with gradients: for the weight, for its scales and for its zeros.

Every format here is a grid of values times a scale: value = level * s, and for integers level = code - zero. With v the
decoded value and w the weight, the straight-through estimator takes for a weight inside the range of its codes
dv/dw = 1, dv/ds = (v - w) / s, dv/dzero = 0, and for one beyond it dv/dw = 0, dv/ds = v / s, dv/dzero = -s.
Source: Bengio et al., arXiv 1308.3432; Esser et al., arXiv 1902.08153 (scales); Chen et al., arXiv 2407.11062 (zeros).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from netweight.errors import CompressError
from netweight.formats import Format, Params, QTensor, cast_scale, encode, expand

CACHED = 1 << 16  # elements of a matrix gone through at a time
HALF = 1 - 1e-6  # so that what is rounded half a step up or down does not count as clipped


def fake_quantize(weight_OI: Tensor, params: Params, format: Format) -> Tensor:
    """The decoded matrix under these params, differentiable in the weight, ``params.scale_RG`` and ``params.zero_RG``."""
    return _FakeQuantize.apply(weight_OI, params.scale_RG, params.zero_RG, params, format)  # pyright: ignore[reportReturnType]


class _FakeQuantize(torch.autograd.Function):
    @staticmethod
    def forward(ctx, weight, scale_RG, zero_RG, params, format):  # pyright: ignore[reportIncompatibleMethodOverride]
        params = replace(params, scale_RG=scale_RG.detach(), zero_RG=None if zero_RG is None else zero_RG.detach())
        value = decoded(weight.detach(), params, format)
        ctx.save_for_backward(weight.detach(), value, params.scale_RG, params.zero_RG)
        ctx.params, ctx.format = params, format
        return value

    @staticmethod
    def backward(ctx, gradient):  # pyright: ignore[reportIncompatibleMethodOverride]
        weight, value, scale_RG, zero_RG = ctx.saved_tensors
        params, format = replace(ctx.params, scale_RG=scale_RG, zero_RG=zero_RG), ctx.format
        to_weight = torch.empty_like(gradient) if ctx.needs_input_grad[0] else None
        to_scale = torch.empty_like(scale_RG) if ctx.needs_input_grad[1] else None
        to_zero = torch.empty_like(zero_RG) if zero_RG is not None and ctx.needs_input_grad[2] else None
        for rows, blocks in _strips(_shape(weight), format, scale_RG.shape[0]):
            g, w, v, here = gradient[rows], weight[rows], value[rows], _rows(params, blocks)
            outside = g * clipped(w, v, here, format)
            inside = g - outside
            if to_weight is not None:
                to_weight[rows] = inside
            if to_scale is not None:
                share = (g * v).sub_(inside.mul_(w))
                to_scale[blocks] = per_block(share, format, here.scale_RG.shape) / here.scale_RG
            if to_zero is not None:
                to_zero[blocks] = -per_block(outside, format, here.scale_RG.shape) * here.scale_RG
        return to_weight, to_scale, to_zero, None, None


def _strips(shape: tuple[int, int], format: Format, blocks: int) -> list[tuple[slice, slice]]:
    """Rows of the matrix with the rows of params that are theirs, in pieces small enough for a core's cache."""
    outputs, inputs = shape
    if blocks != outputs:
        return [(slice(0, outputs), slice(0, blocks))]
    height = max(1, CACHED // inputs)
    return [(slice(r, r + height), slice(r, r + height)) for r in range(0, outputs, height)]


def _rows(params: Params, rows: slice) -> Params:
    zero = None if params.zero_RG is None else params.zero_RG[rows]
    return replace(params, scale_RG=params.scale_RG[rows], zero_RG=zero)


def decoded(weight_OI: Tensor, params: Params, format: Format) -> Tensor:
    """Round to nearest under these params and decode, in the format's own arithmetic."""
    grouped = _whole_groups(weight_OI, format)
    if format.family == "integer" and grouped is not None and format.zero != "fp16":
        zero = 2.0 ** (format.bits - 1) if params.zero_RG is None else params.zero_RG.unsqueeze(-1)
        scale = params.scale_RG.unsqueeze(-1)
        codes = (grouped / scale).round_().add_(zero).clamp_(0, 2**format.bits - 1)
        return codes.sub_(zero).mul_(scale).reshape(weight_OI.shape)
    return encode(weight_OI, params, format).decode(weight_OI.dtype)


def under(q: QTensor, scale_RG: Tensor) -> Tensor:
    """The decoded matrix of these codes under another scale, in few passes over memory where groups allow it."""
    format, grouped = q.format, _whole_groups(q.codes, q.format)
    if format.family == "integer" and grouped is not None:
        zero = 2.0 ** (format.bits - 1) if q.zero is None else q.zero.unsqueeze(-1)
        return grouped.float().sub_(zero).mul_(scale_RG.unsqueeze(-1)).reshape(q.shape)
    return QTensor(q.codes, replace(q.params, scale_RG=scale_RG), format).decode()


def clipped(weight_OI: Tensor, value_OI: Tensor, params: Params, format: Format) -> Tensor:
    """1 for a weight beyond the range of the codes, else 0. In floats: comparisons are several times slower than sums here.

    Of an integer those are beyond that the end code leaves more than half a step away.
    """
    if format.family != "integer":
        low, high = ends(params, format, _shape(weight_OI))
        return (weight_OI - torch.minimum(torch.maximum(weight_OI, low), high)).sign_().abs_()
    grouped, values = _whole_groups(weight_OI, format), _whole_groups(value_OI, format)
    if grouped is not None and values is not None:
        steps = (grouped - values).mul_((HALF / params.scale_RG).unsqueeze(-1))
    else:
        steps = (weight_OI - value_OI) * HALF / expand(params, format, _shape(weight_OI))[0]
    return steps.abs_().round_().clamp_(max=1).reshape(weight_OI.shape)


def ends(params: Params, format: Format, shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The least and the largest value each element can take, broadcastable to (O, I)."""
    scale, zero = expand(params, format, shape)
    levels = grid(format, scale.device)
    offset = 0 if zero is None else zero
    unit = scale if params.tensor_scale is None else scale / params.tensor_scale
    return (levels[0] - offset) * unit, (levels[-1] - offset) * unit


def unit(params: Params, format: Format, shape: tuple[int, int]) -> Tensor:
    """What each element's level is multiplied with, broadcastable to (O, I), differentiable in the scale."""
    scale = expand(params, format, shape)[0]
    return scale if params.tensor_scale is None else scale / params.tensor_scale


def gap(weight_OI: Tensor, params: Params, format: Format) -> Tensor:
    """Distance of the two levels that lie around each weight, differentiable in the scale; beyond the ends, of the last two."""
    each = unit(params, format, _shape(weight_OI))
    if format.family == "integer":
        return each
    levels = grid(format, weight_OI.device)
    upper = torch.bucketize(weight_OI.detach() / each.detach(), levels).clamp(1, len(levels) - 1)
    return (levels[upper] - levels[upper - 1]) * each


def around(weight_OI: Tensor, params: Params, format: Format) -> tuple[Tensor, Tensor]:
    """The level below each weight and the distance to the one above, (O, I), in units of the scale; beyond an end, that end and 0."""
    units = weight_OI / unit(params, format, _shape(weight_OI))
    if format.family == "integer":
        zero = expand(params, format, _shape(weight_OI))[1]
        zero = torch.tensor(2.0 ** (format.bits - 1)) if zero is None else zero
        whole = torch.floor(units + zero) if format.zero == "fp16" else torch.floor(units) + zero
        top = 2**format.bits - 1
        lower = whole.clamp(0, top)
        return lower - zero, (whole + 1).clamp(0, top) - lower
    levels = grid(format, weight_OI.device)
    upper = torch.bucketize(units, levels, right=True).clamp(1, len(levels) - 1)
    inside = units.clamp(levels[0], levels[-1]).eq(units)
    lower = torch.where(inside, levels[upper - 1], units.clamp(levels[0], levels[-1]))
    return lower, (levels[upper] - levels[upper - 1]) * inside


def grid(format: Format, device: torch.device) -> Tensor:
    """The values of all codes under a scale of 1 and a zero of 0, ascending, each once."""
    codes = torch.arange(3 if format.element == "ternary" else 2**format.bits, dtype=torch.uint8, device=device)
    ones = torch.ones(1, device=device)
    zero = None if format.zero == "none" else torch.zeros(1, device=device)
    top = torch.ones((), device=device) if format.tensor_scale else None
    levels = format.arithmetic.from_codes(codes, ones, zero, top, format)
    return torch.unique(levels[torch.isfinite(levels)] + 0.0)


def per_block(x_OI: Tensor, format: Format, grid: torch.Size) -> Tensor:
    """Sums over the elements that share a scale, (R, G)."""
    grouped = _whole_groups(x_OI, format)
    if grouped is not None:
        return grouped.sum(-1)
    rows, groups = grid
    height = -(-x_OI.shape[0] // rows)
    width = format.group if format.group > 0 else x_OI.shape[1]
    padded = torch.nn.functional.pad(x_OI, (0, groups * width - x_OI.shape[1], 0, rows * height - x_OI.shape[0]))
    return padded.reshape(rows, height, groups, width).sum((1, 3))


def stored(scale_RG: Tensor, params: Params, format: Format) -> Tensor:
    """A trained scale as the format stores it; the gradient passes straight through.

    Raises: CompressError: the format's scales are powers of two, which have no gradient to follow.
    """
    if format.scale == "e8m0":
        raise CompressError(f"{format.name}: its scales are powers of two and cannot be trained")
    return _Straight.apply(scale_RG, cast_scale(scale_RG.detach(), params, format))  # pyright: ignore[reportReturnType]


def stored_zero(zero_RG: Tensor, format: Format) -> Tensor:
    """A trained zero as the format stores it: a whole code, or a float16; the gradient passes straight through."""
    plain = zero_RG.detach()
    exact = plain.half().float() if format.zero == "fp16" else plain.round().clamp(0, 2**format.bits - 1)
    return _Straight.apply(zero_RG, exact)  # pyright: ignore[reportReturnType]


class _Straight(torch.autograd.Function):
    """The second argument, with the gradient going to the first."""

    @staticmethod
    def forward(ctx, trained, stored):  # pyright: ignore[reportIncompatibleMethodOverride]
        return stored

    @staticmethod
    def backward(ctx, gradient):  # pyright: ignore[reportIncompatibleMethodOverride]
        return gradient, None


def _whole_groups(x_OI: Tensor, format: Format) -> Tensor | None:
    """(O, G, K) where every group is whole and within a row, else None."""
    outputs, inputs = x_OI.shape
    width = format.group or inputs
    return (
        x_OI.reshape(outputs, inputs // width, width)
        if width > 0 and format.rows == 1 and inputs % width == 0
        else None
    )


def _shape(x_OI: Tensor) -> tuple[int, int]:
    return x_OI.shape[0], x_OI.shape[1]


def quantized(weight_OI: Tensor, params: Params, format: Format) -> QTensor:
    """Codes of a trained weight under trained params, which are as the format stores them."""
    params = replace(
        params,
        scale_RG=params.scale_RG.detach(),
        zero_RG=None if params.zero_RG is None else params.zero_RG.detach(),
    )
    return encode(weight_OI.detach(), params, format)

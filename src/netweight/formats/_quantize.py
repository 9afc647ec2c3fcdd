"""fit, encode, quantize, fake_quantize: the same few functions for every format."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import pad

from netweight.errors import FormatError, RangeError
from netweight.formats import nvfp4
from netweight.formats._format import SCALE_BITS, WHOLE_TENSOR, Format, get
from netweight.formats._minifloat import cast, uncast
from netweight.formats._qtensor import Params, QTensor, expand, in_units
from netweight.formats._round import Scaling, check_rounding


def fit(weight_OI: Tensor, format: Format, *, ratio: Tensor | float = 1.0, rule: Scaling = "amax") -> Params:
    """Scales (and zeros) that cover each block's range, rounded to their stored type.

    Args:
      weight_OI: a matrix, any float type; columns are the reduction.
      ratio: the range is shrunk (or widened) by this factor: a number or one per block, (R, G).
      rule: "four-over-six", NVFP4 only: a block's maximum becomes 6 or 4, what errs less; without ``ratio``.
    Raises:
      FormatError: shape and format do not fit together; NaN or Inf in the weight; a rule that the format does not have.
      RangeError: a scale does not fit its stored type.
    """
    weight_OI = checked(weight_OI, format)
    if rule not in get_args(Scaling):
        raise FormatError(f"{format.name}: rule = {rule!r}: {' or '.join(map(repr, get_args(Scaling)))}")
    if rule == "four-over-six":
        check_rounding(format.name, rule)
        if not (isinstance(ratio, float | int) and ratio == 1):
            raise FormatError(f"{format.name}: four-over-six finds the range itself; leave ratio out")
        return nvfp4.fit_four_over_six(blocks(weight_OI, format), format)
    params = format.arithmetic.fit(blocks(weight_OI, format), format, ratio)
    if not bool(torch.isfinite(params.scale_RG).all()):
        worst = weight_OI.abs().max().item()
        limit = torch.finfo(torch.float16 if format.scale == "fp16" else torch.float32).max
        raise RangeError(
            f"{format.name}: a scale for weights up to {worst:g} exceeds {limit:g}, the largest {format.scale} number; "
            "scale the layer down, or use a format with a wider scale such as e4m3-g64 or nvfp4"
        )
    return params


def cast_scale(scale_RG: Tensor, params: Params, format: Format) -> Tensor:
    """Positive scales rounded to the nearest that the format can store, none of them to 0; float32.

    Args:
      params: of the same matrix; a two-level format's row scales are taken from it.
    """
    scale_RG = scale_RG.float()
    if format.scale == "fp16":
        return scale_RG.clamp(2.0**-24, torch.finfo(torch.float16).max).to(torch.float16).float()
    if format.scale == "e4m3":
        return uncast(cast(scale_RG.clamp(2.0**-9, 448.0), "e4m3"), "e4m3")
    if format.scale == "e8m0":
        return torch.exp2(torch.log2(scale_RG.clamp(2.0**-126, 2.0**126)).round())
    if params.row_scale_R1 is not None:
        steps = 2.0 ** SCALE_BITS[format.scale]
        whole = torch.round(in_units(scale_RG, params.row_scale_R1) * steps).clamp(1, steps - 1)
        return whole / steps * params.row_scale_R1
    return scale_RG.clamp(min=torch.finfo(torch.float32).tiny)


def encode(
    weight_OI: Tensor,
    params: Params,
    format: Format,
    *,
    rounding: Literal["nearest", "stochastic"] = "nearest",
    generator: torch.Generator | None = None,
) -> QTensor:
    """Codes of the matrix under given scales; values beyond the range take the end code.

    Raises:
      FormatError: NaN or Inf in the weight, or a shape that does not fit.
    """
    weight_OI = checked(weight_OI, format)
    shape = (weight_OI.shape[0], weight_OI.shape[1])
    scale, zero = expand(params, format, shape)
    codes = format.arithmetic.to_codes(weight_OI, scale, zero, params.tensor_scale, format, rounding, generator)
    return QTensor(codes, params, format)


def quantize(
    weight_OI: Tensor,
    format: Format,
    *,
    rounding: Literal["nearest", "stochastic"] = "nearest",
    generator: torch.Generator | None = None,
) -> QTensor:
    """``fit``, then ``encode``: plain round-to-nearest."""
    return encode(weight_OI, fit(weight_OI, format), format, rounding=rounding, generator=generator)


def fake_quantize(
    x: Tensor,
    format: Format | str,
    *,
    rounding: Literal["nearest", "stochastic"] = "nearest",
    generator: torch.Generator | None = None,
) -> Tensor:
    """Quantized and decoded again; the gradient passes straight through.

    Args:
      x: (..., I); leading dimensions are rows.
    Source: Bengio et al., arXiv 1308.3432 (straight-through estimator).
    """
    row = get(format) if isinstance(format, str) else format
    return _StraightThrough.apply(x, row, rounding, generator)  # pyright: ignore[reportReturnType]


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, format, rounding, generator):  # pyright: ignore[reportIncompatibleMethodOverride]
        matrix = x.reshape(-1, x.shape[-1])
        return quantize(matrix, format, rounding=rounding, generator=generator).decode(x.dtype).reshape(x.shape)

    @staticmethod
    def backward(ctx, gradient):  # pyright: ignore[reportIncompatibleMethodOverride]
        return gradient, None, None, None


def checked(weight_OI: Tensor, format: Format) -> Tensor:
    """The matrix in float32 (float64 stays), after shape and finiteness checks."""
    if weight_OI.dim() != 2:
        raise FormatError(f"{format.name}: needs a matrix (outputs, inputs), got shape {tuple(weight_OI.shape)}")
    format.grid((weight_OI.shape[0], weight_OI.shape[1]))
    weight_OI = weight_OI if weight_OI.dtype == torch.float64 else weight_OI.float()
    if bad := not_finite(weight_OI):
        raise FormatError(f"{format.name}: {bad} of {weight_OI.numel()} weights are NaN or Inf")
    return weight_OI


def not_finite(tensor: Tensor) -> int:
    """How many values are NaN or infinite. A finite sum settles it without another tensor of that size."""
    tensor = tensor.detach()
    if not tensor.is_floating_point() or bool(torch.isfinite(tensor.sum())):
        return 0
    return int((~torch.isfinite(tensor)).sum())


def blocks(weight_OI: Tensor, format: Format) -> Tensor:
    """(R, G, elements of one block); blocks that stick out are filled with NaN, which fits ignore."""
    outputs, inputs = weight_OI.shape
    if format.group == WHOLE_TENSOR:
        return weight_OI.reshape(1, 1, -1)
    rows, groups = format.grid((outputs, inputs))
    width = format.group or inputs
    short = (rows * format.rows - outputs, groups * width - inputs)
    if any(short):
        weight_OI = pad(weight_OI, (0, short[1], 0, short[0]), value=torch.nan)
    tiles = weight_OI.reshape(rows, format.rows, groups, width)
    return tiles.transpose(1, 2).reshape(rows, groups, format.rows * width)

"""``round_blocks`` by the compiled library: one pass over memory, after what finds the largest magnitudes."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_float, c_int, c_int32, c_int64, c_uint64, c_void_p
from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from netweight import native
from netweight.formats import _minifloat
from netweight.formats._format import WHOLE_ROW, WHOLE_TENSOR
from netweight.formats._layout import Layout

if TYPE_CHECKING:
    from netweight.formats._round import Request

KINDS = {"nvfp4": 0, "nvfp4-2d": 0, "mxfp4": 1}
MASK = (1 << 64) - 1


class Rounding(ctypes.Structure):
    """``nw_rounding``."""

    _fields_ = (
        *((name, c_int64) for name in ("outer", "rows", "mid", "length", "inner", "samples")),
        ("seed", c_uint64),
        *((name, c_int32) for name in ("format", "row_block", "stochastic", "rule", "signs")),
        ("ratio", c_float),
    )


class Scaling(ctypes.Structure):
    """``nw_scaling``."""

    _fields_ = (
        *((name, c_int64) for name in ("outer", "length", "inner", "width")),
        ("seed", c_uint64),
        *((name, c_int32) for name in ("stochastic", "mantissa_bits", "min_exponent")),
        *((name, c_float) for name in ("low", "high")),
    )


SIGNATURES: native.Signatures = {
    "nw_round_blocks": (c_int, (POINTER(Rounding), c_void_p, c_void_p)),
    "nw_round_scaled": (c_int, (POINTER(Scaling), c_void_p, c_void_p, c_void_p)),
}


@cache
def _library() -> ctypes.CDLL:
    return native.declare(native.library(), SIGNATURES)


def serves(request: Request) -> bool:
    """Whether the library knows the format, and can turn blocks of it where that is asked for."""
    return _kind(request) is not None or (request.signs < 0 and request.format.rows == 1)


def _kind(request: Request) -> int | None:
    return KINDS.get(request.format.name.removesuffix("-ragged"))


def round_into(
    out: Tensor, x: Tensor, plan: Layout, request: Request, stochastic: bool, seed: int, samples: int
) -> None:
    """Fills ``out``, dense as x is, and possibly x itself."""
    kind = _kind(request)
    if kind is None:
        return _round_scaled(out, x, plan, request, stochastic, seed, samples)
    how = Rounding(
        *plan.sizes,
        samples,
        seed & MASK,
        kind,
        plan.row_block,
        stochastic,
        request.four_over_six,
        request.signs,
        request.ratio,
    )
    status = _library().nw_round_blocks(how, x.data_ptr(), out.data_ptr())
    native.checked(status, request.format.name)


def _round_scaled(
    out: Tensor, x: Tensor, plan: Layout, request: Request, stochastic: bool, seed: int, samples: int
) -> None:
    """Formats whose scales follow from the smallest and the largest of a group: these by torch, their elements by the library."""
    if request.format.group == WHOLE_TENSOR:
        outer, length, inner = samples, x.numel() // samples, 1
    else:
        outer, length, inner = plan.outer, plan.length, plan.inner
    width = length if request.format.group in (WHOLE_ROW, WHOLE_TENSOR) else request.format.group
    lines = x.permute(plan.order).reshape(outer, length, inner)
    ends = _ends(lines, width)
    scale = request.format.arithmetic.fit(ends.reshape(-1, 1, 2), request.format, request.ratio).scale_RG.contiguous()
    if request.format.family == "integer":
        top = 2 ** (request.format.bits - 1)
        how = (-1, 0, -top, top - 1)
    else:
        row = _minifloat.ROWS[request.format.element]
        how = (row.mantissa_bits, row.min_exponent, -row.max, row.max)
    status = _library().nw_round_scaled(
        Scaling(outer, length, inner, width, seed & MASK, stochastic, *how),
        x.data_ptr(),
        scale.data_ptr(),
        out.data_ptr(),
    )
    native.checked(status, request.format.name)
    finite = torch.isfinite(ends.reshape(samples, -1)).all(1)
    if not bool(finite.all()):
        out.permute(plan.order).reshape(samples, -1)[~finite] = torch.nan


def _ends(lines: Tensor, width: int) -> Tensor:
    """(outer, length, inner) to (outer, groups, inner, 2): the smallest and the largest of each group, NaN where it holds one."""
    outer, length, inner = lines.shape
    whole = length // width
    parts = [lines[:, : whole * width].reshape(outer, whole, width, inner)] if whole else []
    parts += [lines[:, None, whole * width :]] if length % width else []
    return torch.cat([torch.stack([part.amin(2), part.amax(2)], -1) for part in parts], 1)

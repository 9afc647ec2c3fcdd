"""``round_blocks`` by the compiled library: one pass over memory, after one that finds the largest magnitude."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_float, c_int, c_int32, c_int64, c_uint64, c_void_p
from functools import cache
from typing import TYPE_CHECKING

from torch import Tensor

from netweight import native
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


SIGNATURES: native.Signatures = {"nw_round_blocks": (c_int, (POINTER(Rounding), c_void_p, c_void_p))}


@cache
def _library() -> ctypes.CDLL:
    return native.declare(native.library(), SIGNATURES)


def round_into(
    out: Tensor, x: Tensor, plan: Layout, request: Request, stochastic: bool, seed: int, samples: int
) -> None:
    """Fills ``out``, dense as x is, and possibly x itself."""
    kind = KINDS[request.format.name.removesuffix("-ragged")]
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

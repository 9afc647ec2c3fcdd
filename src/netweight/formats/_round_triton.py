"""``round_blocks`` on a CUDA GPU: one pass over memory in Triton, after what finds the largest magnitude; the same bits.

Every float32 operation stands in the order of ``_round_reference``; products are not fused with sums, and quotients are rounded as
IEEE 754 has them. With ``TRITON_INTERPRET=1`` set before the first use it runs on CPU tensors, slowly: for tests.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from netweight.formats import nvfp4
from netweight.formats._layout import Layout
from netweight.formats._round_reference import UNBIASED, WORD, mixed

if TYPE_CHECKING:
    from netweight.formats._round import Request

ELEMENTS = 2048  # of one program
OPTIONS = {"enable_fp_fusion": False}


@cache
def there() -> bool:
    """Is Triton installed?"""
    return find_spec("triton") is not None


def fixed(request: Request) -> dict[str, int]:
    """The constants that both kernels are compiled with."""
    rows, width = request.format.rows, request.format.group
    return {"ROWS": rows, "WIDTH": width, "BLOCKS": ELEMENTS // (rows * width), "SIGNS": request.signs}


def rule_of(request: Request) -> dict[str, bool]:
    """Those of ``rounded`` alone, but for ``STOCHASTIC``."""
    return {"MICRO": request.format.family == "mx", "FOUR_OVER_SIX": request.four_over_six}


def round_into(
    out: Tensor, x: Tensor, plan: Layout, request: Request, stochastic: bool, seed: int, samples: int
) -> None:
    """Fills ``out``, dense as x is, and possibly x itself."""
    from netweight.formats import _round_kernels

    with torch.cuda.device_of(x):  # Triton launches on the current device
        _launch(_round_kernels, out, x, plan, request, stochastic, seed, samples)


def _launch(
    kernels: Any, out: Tensor, x: Tensor, plan: Layout, request: Request, stochastic: bool, seed: int, samples: int
) -> None:
    outer, rows, mid, length, inner = plan.sizes
    across, down = -(-length // request.format.group), -(-rows // plan.row_block)
    blocks = outer * down * mid * across * inner
    how = fixed(request) | OPTIONS
    grid = (-(-blocks // how["BLOCKS"]),)
    sizes = (blocks, rows, mid, length, inner, across, down)
    whole = plan.view(x).reshape(samples, -1).abs().amax(1)  # NaN where a sample holds NaN
    broken = ~torch.isfinite(whole)
    if request.format.family == "mx":
        level = torch.ones_like(whole)
    else:
        if request.signs >= 0:  # the scale belongs to what is rounded
            largest = torch.empty(blocks, dtype=torch.float32, device=x.device)
            kernels.measure[grid](x, largest, sizes, **how)
            whole = largest.reshape(samples, -1).amax(1)
        level = nvfp4.encode_scale(whole, nvfp4.SCALE_MAX_OF_SIX if request.four_over_six else nvfp4.SCALE_MAX)
    levels = torch.where(broken, torch.nan, torch.stack([level, 1 / level, nvfp4.sixth_of(level)]))
    key = mixed(seed)
    widen = UNBIASED if stochastic and request.four_over_six else 1.0
    kernels.rounded[grid](
        x, out, levels, sizes, outer // samples, samples, key & WORD, key >> 32, float(request.ratio), widen,
        STOCHASTIC=stochastic, **rule_of(request), **how,
    )  # fmt: skip

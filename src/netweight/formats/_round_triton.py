"""``round_blocks`` on a CUDA GPU: one pass over memory in Triton, after one that finds the largest magnitude; the same bits.

Every float32 operation stands in the order of ``_round_reference``; products are not fused with sums, and quotients are rounded as
IEEE 754 has them. With ``TRITON_INTERPRET=1`` set before the first use it runs on CPU tensors, slowly: for tests.
"""

# Triton reads the source of what it compiles: no postponed annotations here, and names in capitals are its constants.
# pyright: basic, reportArgumentType=false, reportAttributeAccessIssue=false, reportIndexIssue=false, reportOperatorIssue=false
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from netweight.formats import nvfp4
from netweight.formats._format import Format
from netweight.formats._layout import Layout
from netweight.formats._round_reference import UNBIASED, WORD, mixed

ELEMENTS = 2048  # of one program
OPTIONS = {"enable_fp_fusion": False}
BLOCKS = {"nvfp4": 16, "nvfp4-2d": 16, "mxfp4": 32}


@cache
def there() -> bool:
    """Is Triton installed?"""
    return find_spec("triton") is not None


def serves(format: Format) -> bool:
    """Is there a kernel for this format?"""
    return format.name.removesuffix("-ragged") in BLOCKS


def fixed(request: Any) -> dict[str, int]:
    """The constants a kernel is compiled with, but for ``STOCHASTIC``."""
    rows, width = request.format.rows, BLOCKS[request.format.name.removesuffix("-ragged")]
    return {
        "ROWS": rows, "WIDTH": width, "BLOCKS": ELEMENTS // (rows * width), "SIGNS": request.signs,
        "MICRO": request.format.family == "mx", "FOUR_OVER_SIX": request.four_over_six,
    }  # fmt: skip


def round_into(out: Tensor, x: Tensor, plan: Layout, request: Any, stochastic: bool, seed: int, samples: int) -> None:
    """Fills ``out``, dense as x is, and possibly x itself."""
    from netweight.formats import _round_kernels

    with torch.cuda.device_of(x):  # Triton launches on the current device
        _launch(_round_kernels, out, x, plan, request, stochastic, seed, samples)


def _launch(
    kernels: Any, out: Tensor, x: Tensor, plan: Layout, request: Any, stochastic: bool, seed: int, samples: int
) -> None:

    width = BLOCKS[request.format.name.removesuffix("-ragged")]
    outer, rows, mid, length, inner = plan.sizes
    across, down = -(-length // width), -(-rows // plan.row_block)
    blocks = outer * down * mid * across * inner
    grid = (-(-blocks // (ELEMENTS // (plan.row_block * width))),)
    sizes = (blocks, rows, mid, length, inner, across, down, outer // samples)
    how = fixed(request) | OPTIONS
    whole = plan.view(x).reshape(samples, -1).abs().amax(1)  # NaN where a sample holds NaN
    broken = ~torch.isfinite(whole)
    if request.format.family == "mx":
        level = torch.ones_like(whole)
    else:
        if request.signs >= 0:  # the scale belongs to what is rounded
            largest = torch.empty(blocks, device=x.device)
            kernels.measure[grid](x, largest, *sizes, **how)
            whole = largest.reshape(samples, -1).amax(1)
        level = nvfp4.encode_scale(whole, nvfp4.SCALE_MAX_OF_SIX if request.four_over_six else nvfp4.SCALE_MAX)
    sixth = level * torch.tensor(1 / nvfp4.GRID_MAX, dtype=torch.float32, device=x.device)
    levels = torch.where(broken, torch.nan, torch.stack([level, 1 / level, sixth]))
    key = mixed(seed)
    widen = UNBIASED if stochastic and request.four_over_six else 1.0
    kernels.rounded[grid](
        x,
        out,
        levels,
        *sizes,
        samples,
        key & WORD,
        key >> 32,
        float(request.ratio),
        widen,
        STOCHASTIC=stochastic,
        **how,
    )

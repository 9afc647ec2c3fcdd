"""AWQ: scale up the input channels that matter before rounding, then clip each group's range, judged by the output.

Channel scale s = mean|x|^a (at least 1e-4, then divided by sqrt(max s * min s)), a from a grid on [0, 1); the a whose rounded
weights change the layers' outputs least on the calibration inputs wins. Then each group's range is shrunk by up to half in ten
steps, judged by the group's own share of the output error. Output errors are exact sums over all calibration rows,
through the second moment of the input, not over a sample of tokens. Source: Lin et al., arXiv 2306.00978, section 3.2;
its reference code for the grids.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from netweight.compress import _ranges
from netweight.compress._plugin import Moments, Solution
from netweight.errors import CompressError
from netweight.formats import Format, encode, quantize
from netweight.settings import Settings as Base

SUMMARY = "activation-aware channel scales and clipping"
STATS = "moments"
FLOOR = 1e-4


class Settings(Base):
    grid: int = Field(20, ge=1, le=1000, description="exponents tried, evenly on [0, 1)")
    clip: int = Field(
        10, ge=1, le=1000, description="range ratios tried, from 1 down in steps of 1/20; 1 turns clipping off"
    )


def roundings(settings: Settings) -> int:
    """How often a weight is rounded, for an estimate of the time."""
    return settings.grid + settings.clip


@torch.no_grad()
def rescale(weights: dict[str, Tensor], stats: Moments, format: Format | None, settings: Settings) -> Tensor:
    """(I,) factors for the columns of these weights, float32; the first exponent that errs least."""
    if format is None:
        raise CompressError("awq: needs the format the scales are searched for")
    best_error, best = float("inf"), torch.ones_like(stats.mean_abs_I)
    for k in range(settings.grid):
        scale_I = channel_scale(stats.mean_abs_I, k / settings.grid)
        error = sum(
            stats.output_error(quantize(w.float() * scale_I, format).decode() / scale_I - w.float())
            for w in weights.values()
        )
        if error < best_error:
            best_error, best = error, scale_I
    return best


def channel_scale(mean_abs_I: Tensor, exponent: float) -> Tensor:
    scale = mean_abs_I.float().pow(exponent).clamp(min=FLOOR)
    return scale / (scale.max() * scale.min()).sqrt()


@torch.no_grad()
def solve(weight_OI: Tensor, stats: Moments, format: Format, settings: Settings) -> Solution:
    """The nearest codes under the clipped ranges that change the output least."""
    weight_OI = weight_OI.float()
    ratios = tuple(1 - k / 20 for k in range(min(settings.clip, 20)))
    hessian = stats.hessian_II if stats.hessian_II.dim() == 2 else stats.hessian_II.mean(0)
    params = _ranges.search(weight_OI, format, ratios, _ranges.block_output_error(format, hessian))
    return Solution(encode(weight_OI, params, format))

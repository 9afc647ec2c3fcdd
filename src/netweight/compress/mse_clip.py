"""Round to nearest on the range with the least squared weight error, block by block.

Shrinking a block's range makes its steps finer and clips its extremes; the best ratio is found on a grid.
Source: Banner et al., arXiv 1810.05723 (clipping as a trade-off); the ratios 3/2 and 2 for block floating point: the choice
between the top values 4 and 6 of E2M1 in arXiv 2512.02010, and the next power of two for E8M0 scales.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from netweight.compress import _ranges
from netweight.compress._plugin import Moments, Solution
from netweight.formats import Format, encode
from netweight.settings import Settings as Base

SUMMARY = "round to nearest on the range with the least weight error; needs no data"
STATS = "none"


class Settings(Base):
    lowest: float = Field(0.4, gt=0, le=1, description="smallest ratio of the full range that is tried")
    tries: int = Field(25, ge=2, le=1000, description="ratios tried between `lowest` and the full range")


def ratios(settings: Settings, format: Format) -> tuple[float, ...]:
    """Candidates, the full range first. Powers of two suffice for E8M0 scales; NVFP4 may also widen to 3/2, and ternary,
    whose scale is a mean and not a maximum, to 2."""
    if format.scale == "e8m0":
        return (1.0, 2.0, 0.5)
    if format.element == "ternary":
        return tuple(1 + k / (settings.tries - 1) for k in range(settings.tries))
    step = (1 - settings.lowest) / (settings.tries - 1)
    grid = tuple(1 - step * k for k in range(settings.tries))
    return (*grid, 1.5) if format.scale == "e4m3" else grid


def roundings(settings: Settings) -> int:
    """How often a weight is rounded, for an estimate of the time."""
    return settings.tries + 1


@torch.no_grad()
def solve(weight_OI: Tensor, stats: Moments | None, format: Format, settings: Settings) -> Solution:
    """The nearest codes under the scales that err least."""
    weight_OI = weight_OI.float()
    params = _ranges.search(weight_OI, format, ratios(settings, format), _ranges.squared_error(format))
    return Solution(encode(weight_OI, params, format))

"""Round to nearest: every block's range onto the format, every weight to the nearest code."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from netweight.compress._plugin import Moments, Solution
from netweight.formats import Format, Scaling, encode, fit
from netweight.settings import Settings as Base

SUMMARY = "round to nearest on each block's own range; needs no data"
STATS = "none"


class Settings(Base):
    scales: Scaling = Field(
        "amax", description='by a block\'s maximum, or "four-over-six" (NVFP4): it becomes 6 or 4, what errs less'
    )


@torch.no_grad()
def solve(weight_OI: Tensor, stats: Moments | None, format: Format, settings: Settings) -> Solution:
    """The nearest codes under min/max scales, or under those of the rule that was asked for."""
    return Solution(encode(weight_OI, fit(weight_OI, format, rule=settings.scales), format))

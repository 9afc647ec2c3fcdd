"""Round to nearest: every block's range onto the format, every weight to the nearest code."""

from __future__ import annotations

import torch
from torch import Tensor

from netweight.compress._plugin import Moments, Solution
from netweight.formats import Format, quantize
from netweight.settings import Settings as Base

SUMMARY = "round to nearest on each block's own range; needs no data"
STATS = "none"


class Settings(Base):
    """Round-to-nearest has no knobs."""


@torch.no_grad()
def solve(weight_OI: Tensor, stats: Moments | None, format: Format, settings: Settings) -> Solution:
    """The nearest codes under min/max scales."""
    return Solution(quantize(weight_OI, format))

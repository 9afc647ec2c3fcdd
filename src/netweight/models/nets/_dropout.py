"""Dropout that costs little on a CPU, where torch draws a number of its own for every element.

Source: Srivastava et al. 2014, JMLR 15. Sixteen random bits decide for each element, so the chance is rounded to a multiple of 2^-16 below 1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LEVELS = 2**16


class Dropout(nn.Module):
    """In training each element becomes 0 with the chance ``p``, and is divided by 1 - p where it does not.

    Draws come from torch's generator of the input's device.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.p)
        dropped = min(round(self.p * LEVELS), LEVELS - 1)
        words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)  # four draws in each
        kept = words.view(torch.int16)[: x.numel()] >= dropped - LEVELS // 2
        return x * _laid_out_as(x, kept).to(x.dtype).mul_(LEVELS / (LEVELS - dropped))

    def extra_repr(self) -> str:
        return f"p={self.p}"


def _laid_out_as(x: Tensor, flat: Tensor) -> Tensor:
    """In the shape of x, in the memory order of x: a mask in another order would be slow to multiply with."""
    if x.dim() == 4 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last):
        return flat.view(len(x), *x.shape[2:], x.shape[1]).movedim(-1, 1)
    return flat.view(x.shape)

"""Number formats of what layers read: a scale for each row of inputs, found when the row comes."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from torch import Tensor

from netweight.errors import UnknownName, nearest

MOST_BITS = 8
SMALLEST = 1e-36  # a row below it counts as zeros: levels / absmax must not overflow


@dataclass(frozen=True)
class Activations:
    """Symmetric whole numbers of ``bits`` bits with one float32 scale per token (row of the layer's input), taken as it comes.

    The same for every token whatever stands beside it. Source: Yao et al., arXiv 2206.01861 (token-wise dynamic quantization).
    """

    name: str
    bits: int

    @property
    def levels(self) -> int:
        """Largest code: 127 for 8 bits, 7 for 4."""
        return 2 ** (self.bits - 1) - 1

    def round(self, x: Tensor) -> Tensor:
        """The values that codes and scales stand for, in x's shape and type; gradients pass as if nothing had been rounded.

        Args:
          x: (..., I); rows are what lies along the last axis.
        """
        with torch.no_grad():
            absmax = x.detach().float().abs().amax(-1, keepdim=True)
            absmax = torch.where(absmax < SMALLEST, 0.0, absmax)
            inverse = torch.where(absmax > 0, self.levels / absmax, 0.0)
            value = ((x.detach().float() * inverse).round() * (absmax / self.levels)).to(x.dtype)
        if not (torch.is_grad_enabled() and x.requires_grad):
            return value
        return x + (value - x).detach()


def activations(name: str) -> Activations:
    """``"int8-token"`` and its like, 2 to 8 bits. Raises: UnknownName: the nearest is offered."""
    found = re.fullmatch(r"int([2-8])-token", name)
    if found is None:
        known = [f"int{bits}-token" for bits in range(MOST_BITS, 1, -1)]
        raise UnknownName(
            f"{name!r} is not a format of activations{nearest(name, known)}; known: int2-token … int8-token"
        )
    return Activations(name, int(found[1]))

"""Scales from the ends of each group's range, each end shrunk by a factor that can be trained."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from netweight.compress import _fake, _start
from netweight.errors import FormatError
from netweight.formats import Format, Params, blocks, fit


def check(format: Format, method: str) -> None:
    """Raises: FormatError: the format's scales cannot follow a range that moves a little."""
    if format.scale == "e8m0":
        raise FormatError(
            f"{method} moves the ends of each group's range, and the scales of {format.name} are powers of two; "
            "use mse_clip, gptq or block_qat with it, or a format such as nvfp4 or int4-g32"
        )
    if format.family == "lookup":
        raise FormatError(
            f"{method} moves the ends of each group's range, and {format.name} has levels laid out for a whole one; "
            f"use rtn, mse_clip or gptq with it, or a format such as int{max(format.bits, 2)}-g64"
        )


class Range:
    """The range of each block of a matrix as it was at first; ``params`` gives scales for shrunk ends."""

    def __init__(self, weight_OI: Tensor, format: Format) -> None:
        self.format = format
        self.low_RG, self.high_RG = ends(weight_OI, format)
        self.base = _start.positive(fit(weight_OI, format), format)

    @property
    def both(self) -> bool:
        """Do the two ends move apart from each other?"""
        return self.format.family == "integer"

    def params(self, low: Tensor, high: Tensor, ends_RG: tuple[Tensor, Tensor] | None = None) -> Params:
        """As stored, differentiable in the factors (R, G) and in the ends, where those are given anew."""
        low_RG, high_RG = ends_RG or (self.low_RG, self.high_RG)
        if not self.both:
            size = torch.maximum(-low_RG, high_RG) / torch.maximum(-self.low_RG, self.high_RG).clamp(min=1e-30)
            scale = self.base.scale_RG * high if ends_RG is None else self.base.scale_RG * size * high
            return replace(self.base, scale_RG=_fake.stored(scale, self.base, self.format))
        low_RG, high_RG = low_RG * low, high_RG * high
        top = 2**self.format.bits - 1
        if self.format.zero == "none":
            wanted = torch.maximum(-low_RG, high_RG) * 2 / top
            return replace(self.base, scale_RG=_fake.stored(wanted, self.base, self.format))
        scale = _fake.stored((high_RG - low_RG) / top, self.base, self.format)
        exact = (-low_RG / scale).detach()
        zero = exact.half().float() if self.format.zero == "fp16" else exact.round().clamp(0, top)
        return replace(self.base, scale_RG=scale, zero_RG=zero)


def ends(weight_OI: Tensor, format: Format) -> tuple[Tensor, Tensor]:
    """Least and largest value of each block, (R, G), 0 always between them."""
    tiles = blocks(weight_OI, format).nan_to_num(nan=0.0)
    return tiles.amin(-1).clamp(max=0), tiles.amax(-1).clamp(min=0)

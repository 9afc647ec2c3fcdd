"""Number formats of what layers read: scales are found when the input comes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from netweight.errors import FormatError, UnknownName, nearest
from netweight.formats._format import get
from netweight.formats._round import check_rounding, round_blocks

MOST_BITS = 8
SMALLEST = 1e-36  # a row below it counts as zeros: levels / absmax must not overflow
FOUR_OVER_SIX = "-four-over-six"
KNOWN = (*(f"int{bits}-token" for bits in range(MOST_BITS, 1, -1)), "nvfp4", "mxfp4", f"nvfp4{FOUR_OVER_SIX}")
_WAY_OUT = "known: int2-token … int8-token, nvfp4, mxfp4, and other symmetric formats with blocks along one axis"


class Activations(Protocol):
    """What a layer's input is rounded to whenever the layer runs."""

    @property
    def name(self) -> str: ...

    @property
    def levels(self) -> int:
        """Largest code where inputs are whole numbers with one scale per token; 0 where they are not."""
        ...

    def round(self, x: Tensor, axis: int = -1) -> Tensor:
        """The values that codes and scales stand for, in x's shape and type; gradients pass as if nothing had been rounded.

        Args:
          axis: the channels, which the layer sums over.
        """
        ...


@dataclass(frozen=True)
class Tokens:
    """Symmetric whole numbers of ``bits`` bits with one float32 scale per token (row of the layer's input), taken as it comes.

    The same for every token whatever stands beside it. Source: Yao et al., arXiv 2206.01861 (token-wise dynamic quantization).
    """

    name: str
    bits: int

    @property
    def levels(self) -> int:
        """127 for 8 bits, 7 for 4."""
        return 2 ** (self.bits - 1) - 1

    def round(self, x: Tensor, axis: int = -1) -> Tensor:
        """See ``Activations``: a token is what lies along the axis."""
        with torch.no_grad():
            absmax = x.detach().float().abs().amax(axis, keepdim=True)
            absmax = torch.where(absmax < SMALLEST, 0.0, absmax)
            inverse = torch.where(absmax > 0, self.levels / absmax, 0.0)
            value = ((x.detach().float() * inverse).round() * (absmax / self.levels)).to(x.dtype)
        return _straight(x, value)


@dataclass(frozen=True)
class Blocks:
    """Blocks of channels as ``round_blocks`` has them. Each slice of the first dimension has a second-level scale of its own, so
    that what a sample becomes does not depend on what else is in the batch.
    """

    name: str
    format: str
    rule: str

    @property
    def levels(self) -> int:
        """There is no scale per token."""
        return 0

    def round(self, x: Tensor, axis: int = -1) -> Tensor:
        """See ``Activations``. Where the channels are the first dimension x is one sample."""
        samples = 1 if axis % x.dim() == 0 else x.shape[0]
        with torch.no_grad():
            value = round_blocks(x, self.format, axis=axis, rule=self.rule, scales="float32", samples=samples).to(
                x.dtype
            )
        return _straight(x, value)


def activations(name: str) -> Activations:
    """``"int8-token"`` and its like, 2 to 8 bits; or a format of ``round_blocks`` with blocks along one axis, such as ``"nvfp4"``,
    ``"mxfp4"``, ``"e4m3-g32"``, ``"nvfp4-four-over-six"``.

    Raises: UnknownName: the nearest is offered.
    """
    if (found := re.fullmatch(r"int([2-8])-token", name)) is not None:
        return Tokens(name, int(found[1]))
    format, rule = (
        (name.removesuffix(FOUR_OVER_SIX), "four-over-six") if name.endswith(FOUR_OVER_SIX) else (name, "amax")
    )
    try:
        check_rounding(format, rule)
        row = get(format)
    except FormatError as error:
        raise UnknownName(f"{name!r} is not a format of activations: {error}; {_WAY_OUT}") from error
    except UnknownName as error:
        raise UnknownName(f"{name!r} is not a format of activations{nearest(name, KNOWN)}; {_WAY_OUT}") from error
    if row.rows > 1 or row.group <= 0:
        raise UnknownName(
            f"{name!r} is not a format of activations: its scales are not of blocks of channels; {_WAY_OUT}"
        )
    return Blocks(name, format, rule)


def _straight(x: Tensor, value: Tensor) -> Tensor:
    """The value, with the gradient of x."""
    if not (torch.is_grad_enabled() and x.requires_grad):
        return value
    return x + (value - x).detach()

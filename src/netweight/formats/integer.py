"""Integers of 2 to 8 bits on a uniform grid: value = (code - zero) * scale.

Asymmetric (default): scale = (max - min) / (2^b - 1) with 0 inside the range, zero = round(-min / scale), packed as a code.
Symmetric (``-sym``): scale = 2 * absmax / (2^b - 1), zero = 2^(b-1), not stored. ``-fz``: the zero is a float16 fraction of a code.
Source: Frantar et al., arXiv 2210.17323 (quantizer of the reference code); Badri and Shaji, HQQ (float zero).
"""

from __future__ import annotations

import re

import torch
from torch import Tensor

from netweight.formats._format import Format, group_of
from netweight.formats._qtensor import Params, in_units

NAMES = (
    *(
        f"int{b}{sym}-{g}"
        for b in range(2, 9)
        for sym in ("", "-sym")
        for g in ("g32", "g64", "g128", "channel", "tensor")
    ),
    *(f"int{b}-{g}-fz" for b in (2, 3, 4, 8) for g in ("g32", "g64", "g128")),
)


def parse(name: str) -> Format | None:
    """The row of ``int{2..8}[-sym]-{g<N>|channel|tensor}[-fz]``, or None."""
    found = re.fullmatch(r"int([2-8])(-sym)?-(g\d+|channel|tensor)(-fz)?", name)
    if not found or (group := group_of(found[3])) is None or (found[2] and found[4]):
        return None
    zero = "none" if found[2] else ("fp16" if found[4] else "packed")
    return Format(name, "integer", "int", int(found[1]), group, "fp16", zero, source="arXiv 2210.17323")


def fit(blocks_RGK: Tensor, format: Format, ratio: Tensor | float) -> Params:
    """Range of each block onto the codes 0 … 2^b - 1."""
    top = 2**format.bits - 1
    filled = blocks_RGK.nan_to_num(nan=0.0)
    low = filled.amin(-1).clamp(max=0).float() * ratio
    high = filled.amax(-1).clamp(min=0).float() * ratio
    if format.zero == "none":
        absmax = torch.maximum(-low, high)
        return Params((absmax * 2 / top).to(torch.float16).float())
    scale = ((high - low) / top).to(torch.float16).float()
    exact = torch.where(scale > 0, -low / scale, torch.zeros_like(scale))
    if format.zero == "fp16":
        return Params(scale, exact.to(torch.float16).float())
    return Params(scale, torch.round(exact).clamp(0, top))


def to_codes(
    weight: Tensor,
    scale: Tensor,
    zero: Tensor | None,
    tensor_scale: Tensor | None,
    format: Format,
    rounding: str = "nearest",
    generator: torch.Generator | None = None,
) -> Tensor:
    """uint8 codes, clamped to 0 … 2^b - 1; where the scale is 0 the code is the zero."""
    units = in_units(weight, scale)
    offset = 2 ** (format.bits - 1) if zero is None else zero
    if format.zero == "fp16":
        units, offset = units + offset, 0
    if rounding == "nearest":
        whole = torch.round(units)
    else:
        whole = torch.floor(
            units + torch.rand(units.shape, generator=generator, dtype=units.dtype, device=units.device)
        )
    return (whole + offset).clamp(0, 2**format.bits - 1).to(torch.uint8)


def from_codes(
    codes: Tensor, scale: Tensor, zero: Tensor | None, tensor_scale: Tensor | None, format: Format
) -> Tensor:
    """(code - zero) * scale, in the scale's precision."""
    return (codes.to(scale.dtype) - (2 ** (format.bits - 1) if zero is None else zero)) * scale

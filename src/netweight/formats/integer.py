"""Integers of 2 to 8 bits on a uniform grid: value = (code - zero) * scale.

Asymmetric (default): scale = (max - min) / (2^b - 1) with 0 inside the range, zero = round(-min / scale), packed as a code.
Symmetric (``-sym``): scale = 2 * absmax / (2^b - 1), zero = 2^(b-1), not stored. ``-fz``: the zero is a float16 fraction of a code.
Two-level (``-s6``, ``-s8``): scale = m / 2^k * the row's float16 scale, with m a whole number of k = 6 or 8 bits; the product is
exact in float32. Source: Frantar et al., arXiv 2210.17323 (quantizer of the reference code); Badri and Shaji, HQQ (float zero).
"""

from __future__ import annotations

import re

import torch
from torch import Tensor

from netweight.formats._format import SCALE_BITS, Format, group_of
from netweight.formats._qtensor import Params, in_units

NAMES = (
    *(
        f"int{b}{sym}-{g}"
        for b in range(2, 9)
        for sym in ("", "-sym")
        for g in ("g32", "g64", "g128", "channel", "tensor")
    ),
    *(f"int{b}-{g}-fz" for b in (2, 3, 4, 8) for g in ("g32", "g64", "g128")),
    *(f"int{b}{sym}-{g}-s{k}" for b in (2, 3, 4) for sym in ("", "-sym") for g in ("g16", "g32") for k in (6, 8)),
)


def parse(name: str) -> Format | None:
    """The row of ``int{2..8}[-sym]-{g<N>|channel|tensor}[-fz]`` or ``int{2..8}[-sym]-g<N>-s{6|8}``, or None."""
    found = re.fullmatch(r"int([2-8])(-sym)?-(g\d+|channel|tensor)(-fz|-s6|-s8)?", name)
    if not found or (group := group_of(found[3])) is None or (found[2] and found[4] == "-fz"):
        return None
    two_level = found[4] in ("-s6", "-s8")
    if two_level and group <= 0:
        return None
    zero = "none" if found[2] else ("fp16" if found[4] == "-fz" else "packed")
    scale = f"u{found[4][2]}" if two_level else "fp16"
    return Format(name, "integer", "int", int(found[1]), group, scale, zero, source="arXiv 2210.17323")  # pyright: ignore[reportArgumentType]


def fit(blocks_RGK: Tensor, format: Format, ratio: Tensor | float) -> Params:
    """Range of each block onto the codes 0 … 2^b - 1."""
    top = 2**format.bits - 1
    filled = blocks_RGK.nan_to_num(nan=0.0)
    low = filled.amin(-1).clamp(max=0).float() * ratio
    high = filled.amax(-1).clamp(min=0).float() * ratio
    if format.zero == "none":
        scale, row_scale = _stored(torch.maximum(-low, high).abs() * 2 / top, format)  # one zero
        return Params(scale, row_scale_R1=row_scale)
    scale, row_scale = _stored((high - low) / top, format)
    exact = torch.where(scale > 0, -low / scale, torch.zeros_like(scale))
    if format.zero == "fp16":
        return Params(scale, exact.to(torch.float16).float())
    return Params(scale, torch.round(exact).clamp(0, top), row_scale_R1=row_scale)


def _stored(wanted_RG: Tensor, format: Format) -> tuple[Tensor, Tensor | None]:
    """Scales as the format can store them, and the row's scale of a two-level format."""
    if format.scale == "fp32":
        return wanted_RG, None
    if not format.two_level:
        return wanted_RG.to(torch.float16).float(), None
    bits = SCALE_BITS[format.scale]
    steps, most = 2**bits, 2**bits - 1
    row_R1 = (wanted_RG.amax(1, keepdim=True) * (steps / most)).to(torch.float16).float()
    counted = torch.round(in_units(wanted_RG, row_R1) * steps).clamp(max=most)
    counted = torch.where((wanted_RG > 0) & (row_R1 > 0), counted.clamp(min=1), torch.zeros_like(counted))
    return counted / steps * row_R1, row_R1


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

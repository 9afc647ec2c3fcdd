"""Grids given as tables. NF4: 16 quantiles of a normal, absmax scale per 64. Ternary: -1, 0, 1 times the mean magnitude.

Source: Dettmers et al., arXiv 2305.14314, appendix E (NF4); Ma et al., arXiv 2402.17764 (ternary by mean magnitude).
"""

from __future__ import annotations

import re

import torch
from torch import Tensor

from netweight.errors import FormatError
from netweight.formats._format import Format, group_of
from netweight.formats._qtensor import Params, in_units

NF4 = (
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
)
TABLES = {"nf4": NF4, "ternary": (-1.0, 0.0, 1.0)}
NAMES = ("nf4", "ternary-g32", "ternary-g64", "ternary-g128", "ternary-channel", "ternary-tensor")


def parse(name: str) -> Format | None:
    if name == "nf4":
        return Format(name, "lookup", "nf4", 4, 64, "fp16", source="arXiv 2305.14314")
    found = re.fullmatch(r"ternary-(g\d+|channel|tensor)", name)
    if not found or (group := group_of(found[1])) is None:
        return None
    return Format(name, "lookup", "ternary", 2, group, "fp16", source="arXiv 2402.17764")


def fit(blocks_RGK: Tensor, format: Format, ratio: Tensor | float) -> Params:
    """NF4: largest magnitude of the block; ternary: its mean magnitude."""
    magnitude = blocks_RGK.abs()
    spread = magnitude.nan_to_num(nan=0.0).amax(-1) if format.element == "nf4" else magnitude.nanmean(-1)
    return Params((spread.float() * ratio).to(torch.float16).float())


def to_codes(
    weight: Tensor,
    scale: Tensor,
    zero: Tensor | None,
    tensor_scale: Tensor | None,
    format: Format,
    rounding: str = "nearest",
    generator: torch.Generator | None = None,
) -> Tensor:
    """Index of the nearest table entry (ternary ties go to 0); where the scale is 0, the entry 0."""
    units = in_units(weight, scale)
    if rounding == "stochastic":
        return _stochastic(units, format, generator)
    if format.element == "ternary":
        return (torch.round(units.clamp(-1, 1)) + 1).to(torch.uint8)
    table = torch.tensor(TABLES[format.element], dtype=units.dtype, device=units.device)
    return torch.bucketize(units, (table[1:] + table[:-1]) / 2).to(torch.uint8)


def from_codes(
    codes: Tensor, scale: Tensor, zero: Tensor | None, tensor_scale: Tensor | None, format: Format
) -> Tensor:
    """table entry * scale."""
    return torch.tensor(TABLES[format.element], dtype=scale.dtype, device=codes.device)[codes.long()] * scale


def _stochastic(units: Tensor, format: Format, generator: torch.Generator | None) -> Tensor:
    table = torch.tensor(TABLES[format.element], dtype=units.dtype, device=units.device)
    units = units.clamp(table[0], table[-1])
    upper = torch.bucketize(units, table[1:-1], right=True) + 1
    low, high = table[upper - 1], table[upper]
    if bool((high <= low).any()):
        raise FormatError(f"{format.name}: the table is not increasing")
    noise = torch.rand(units.shape, generator=generator, dtype=units.dtype, device=units.device)
    return (upper - 1 + (noise < (units - low) / (high - low)).to(upper.dtype)).to(torch.uint8)

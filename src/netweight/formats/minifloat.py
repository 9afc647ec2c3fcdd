"""Small floats under a float32 scale: value = grid value * scale, scale = absmax / largest grid value.

Source: OCP 8-bit Floating Point Specification v1.0 (E4M3, E5M2); OCP Microscaling Formats v1.0 (E2M1, E2M3, E3M2).
"""

from __future__ import annotations

import torch
from torch import Tensor

from netweight.formats import _minifloat
from netweight.formats._format import Format, group_of
from netweight.formats._qtensor import Params, in_units

NAMES = tuple(f"{e}-{g}" for e in ("e2m1", "e4m3", "e5m2") for g in ("g32", "g64", "g128", "channel", "tensor"))


def parse(name: str) -> Format | None:
    """The row of ``{e2m1|e2m3|e3m2|e4m3|e5m2}-{g<N>|channel|tensor}``, or None."""
    element, _, tail = name.partition("-")
    if element not in _minifloat.ROWS or (group := group_of(tail)) is None:
        return None
    bits = _minifloat.ROWS[element].bits
    return Format(name, "minifloat", element, bits, group, "fp32", source="OCP OFP8 v1.0; OCP MX v1.0")


def fit(blocks_RGK: Tensor, format: Format, ratio: Tensor | float) -> Params:
    """The block's largest magnitude onto the largest grid value."""
    absmax = blocks_RGK.nan_to_num(nan=0.0).abs().amax(-1).float() * ratio
    return Params(absmax / _minifloat.ROWS[format.element].max)


def to_codes(
    weight: Tensor,
    scale: Tensor,
    zero: Tensor | None,
    tensor_scale: Tensor | None,
    format: Format,
    rounding: str = "nearest",
    generator: torch.Generator | None = None,
) -> Tensor:
    """uint8 codes, saturating; where the scale is 0 the code is 0."""
    units = in_units(weight, scale)
    return _minifloat.cast(units, format.element, rounding=rounding, generator=generator)  # pyright: ignore[reportArgumentType]


def from_codes(
    codes: Tensor, scale: Tensor, zero: Tensor | None, tensor_scale: Tensor | None, format: Format
) -> Tensor:
    """grid value * scale."""
    return _minifloat.uncast(codes, format.element, dtype=scale.dtype) * scale

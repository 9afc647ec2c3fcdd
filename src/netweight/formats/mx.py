"""Microscaling formats: 32 elements share a power of two, X = 2^(floor(log2 absmax) - emax), stored as E8M0.

Elements are divided by X, rounded to nearest even, and saturate. Source: OCP Microscaling Formats v1.0, sections 5.2, 5.3, 6.3.
"""

from __future__ import annotations

import torch
from torch import Tensor

from netweight.formats import _minifloat, minifloat
from netweight.formats._format import Format
from netweight.formats._qtensor import Params

ELEMENTS = {
    "mxfp4": "e2m1",
    "mxfp6-e2m3": "e2m3",
    "mxfp6-e3m2": "e3m2",
    "mxfp8-e4m3": "e4m3",
    "mxfp8-e5m2": "e5m2",
}
NAMES = tuple(ELEMENTS)
SMALLEST, LARGEST = -127, 127  # exponents E8M0 can hold


def parse(name: str) -> Format | None:
    if name not in ELEMENTS:
        return None
    element = ELEMENTS[name]
    return Format(name, "mx", element, _minifloat.ROWS[element].bits, 32, "e8m0", source="OCP MX v1.0")


def fit(blocks_RGK: Tensor, format: Format, ratio: Tensor | float) -> Params:
    """Power of two that brings the block's largest magnitude into the grid's top binade; an all-zero block takes 2^-127."""
    absmax = blocks_RGK.nan_to_num(nan=0.0).abs().amax(-1).float() * ratio
    exponent = torch.frexp(absmax)[1] - 1 - _minifloat.ROWS[format.element].max_exponent
    exponent = torch.where(absmax > 0, exponent, SMALLEST).clamp(SMALLEST, LARGEST)
    return Params(torch.ldexp(torch.ones_like(absmax, dtype=torch.float64), exponent).float())


to_codes = minifloat.to_codes
from_codes = minifloat.from_codes

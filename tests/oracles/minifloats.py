"""Oracle of the small floats: every value is listed from its definition, and rounding is a search in that list.

Sources: OCP 8-bit Floating Point Specification (OFP8) v1.0 for E4M3 and E5M2; OCP Microscaling Formats (MX) v1.0,
section 5.3, for E2M1, E2M3, E3M2 and E8M0. All arithmetic is exact: the values and the midpoints between neighbours
fit a float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Overflow = Literal["saturate", "nonfinite"]


@dataclass(frozen=True)
class Minifloat:
    """Sign, exponent and mantissa of a small float, and which codes are special."""

    exponent_bits: int
    mantissa_bits: int
    bias: int
    specials: Literal["none", "one nan", "ieee"]

    @property
    def bits(self) -> int:
        return 1 + self.exponent_bits + self.mantissa_bits


KINDS = {
    "e2m1": Minifloat(2, 1, 1, "none"),
    "e2m3": Minifloat(2, 3, 1, "none"),
    "e3m2": Minifloat(3, 2, 3, "none"),
    "e4m3": Minifloat(4, 3, 7, "one nan"),
    "e5m2": Minifloat(5, 2, 15, "ieee"),
}
EMAX = {"e2m1": 2, "e2m3": 2, "e3m2": 4, "e4m3": 8, "e5m2": 15}  # exponent of the largest normal number


def code_count(kind: str) -> int:
    return 256 if kind == "e8m0" else 2 ** KINDS[kind].bits


def values(kind: str) -> np.ndarray:
    """Value of every code, float64; NaN and infinities where the format has them."""
    if kind == "e8m0":
        return np.array([2.0 ** (code - 127) for code in range(255)] + [np.nan])
    return np.array([_value(KINDS[kind], code) for code in range(code_count(kind))])


def _value(f: Minifloat, code: int) -> float:
    sign = -1.0 if code >> (f.bits - 1) else 1.0
    exponent = (code >> f.mantissa_bits) & (2**f.exponent_bits - 1)
    mantissa = code & (2**f.mantissa_bits - 1)
    all_ones = exponent == 2**f.exponent_bits - 1
    if f.specials == "ieee" and all_ones:
        return sign * np.inf if mantissa == 0 else np.nan
    if f.specials == "one nan" and all_ones and mantissa == 2**f.mantissa_bits - 1:
        return np.nan
    if exponent == 0:
        return sign * mantissa * 2.0 ** (1 - f.bias - f.mantissa_bits)
    return sign * (1 + mantissa / 2**f.mantissa_bits) * 2.0 ** (exponent - f.bias)


def magnitudes(kind: str) -> np.ndarray:
    """Finite values of the codes without a sign, increasing; position = code."""
    listed = values(kind)
    half = listed if kind == "e8m0" else listed[: code_count(kind) // 2]
    return half[np.isfinite(half)]


def maximum(kind: str) -> float:
    return float(magnitudes(kind)[-1])


def nearest(kind: str, x: np.ndarray, overflow: Overflow = "saturate") -> np.ndarray:
    """Code of the nearest value, a tie to the even code; uint8, the sign of zero kept.

    ``overflow`` decides beyond the largest value: saturate, or (E4M3: NaN, E5M2: infinity) as IEEE rounding would.
    For E8M0 only positive input has a meaning. NaN in the input is not handled.
    """
    grid = magnitudes(kind)
    middles = (grid[:-1] + grid[1:]) / 2
    x = np.asarray(x, dtype=np.float64)
    size = np.abs(x)
    code = np.searchsorted(middles, size, side="left")  # number of midpoints strictly below: a tie takes the lower
    tie = np.zeros(x.shape, dtype=bool)
    inner = code < len(middles)
    tie[inner] = middles[code[inner]] == size[inner]
    code = code + (tie & (code % 2 == 1))
    if overflow == "nonfinite":
        step = grid[-1] - grid[-2]
        top = len(grid) - 1
        beyond = size > grid[-1] + step / 2 if top % 2 == 0 else size >= grid[-1] + step / 2
        code = np.where(beyond, top + 1, code)
    if kind != "e8m0":
        code = code + np.where(np.signbit(x), code_count(kind) // 2, 0)
    return code.astype(np.uint8)

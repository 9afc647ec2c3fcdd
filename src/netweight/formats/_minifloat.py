"""Elementwise casts to small floating-point grids, exact to the bit, in the tensor's own precision.

A code is sign | exponent | mantissa. Rounding is to the nearest grid value, ties to the even code (IEEE 754-2019, 4.3.1),
unless asked otherwise. Grids: OCP Microscaling Formats v1.0 (E2M1, E2M3, E3M2, E8M0) and OCP 8-bit Floating Point v1.0
(E4M3 without infinities, E5M2 as IEEE).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from torch import Tensor

from netweight.errors import RangeError, UnknownName, nearest

Rounding = Literal["nearest", "stochastic"]
Overflow = Literal["saturate", "nonfinite", "raise"]
E8M0_BIAS = 127


@dataclass(frozen=True)
class Minifloat:
    """One small float: ``exponent_bits``, ``mantissa_bits``, exponent ``bias``, largest finite value."""

    name: str
    exponent_bits: int
    mantissa_bits: int
    bias: int
    max: float
    infinity: int | None = None  # code of +inf
    nan: int | None = None  # code of +nan

    @property
    def bits(self) -> int:
        return 1 + self.exponent_bits + self.mantissa_bits

    @property
    def min_exponent(self) -> int:
        """Exponent of the smallest normal number."""
        return 1 - self.bias

    @property
    def max_exponent(self) -> int:
        """floor(log2(max)), the "emax" of the MX specification."""
        return torch.frexp(torch.tensor(self.max))[1].item() - 1  # pyright: ignore[reportReturnType]


ROWS = {
    row.name: row
    for row in (
        Minifloat("e2m1", 2, 1, 1, 6.0),
        Minifloat("e2m3", 2, 3, 1, 7.5),
        Minifloat("e3m2", 3, 2, 3, 28.0),
        Minifloat("e4m3", 4, 3, 7, 448.0, nan=0x7F),
        Minifloat("e5m2", 5, 2, 15, 57344.0, infinity=0x7C, nan=0x7E),
    )
}


def minifloat(name: str) -> Minifloat:
    """Raises: UnknownName: no such grid."""
    if name not in ROWS:
        raise UnknownName(f"{name!r} is not a small float{nearest(name, ROWS)}")
    return ROWS[name]


def cast(
    x: Tensor,
    kind: str,
    *,
    overflow: Overflow = "saturate",
    rounding: Rounding | Literal["up", "down"] = "nearest",
    generator: torch.Generator | None = None,
) -> Tensor:
    """Code of the grid value each element rounds to.

    Args:
      x: any shape, float32 or float64.
      kind: "e2m1", "e2m3", "e3m2", "e4m3", "e5m2", or "e8m0" (positive powers of two, 2^-127 to 2^127).
      overflow: beyond the largest finite value: clamp to it, give the format's inf (or NaN), or raise.
      rounding: "nearest" (ties to even) or "stochastic"; for e8m0 also "up" and "down".
      generator: source of randomness for "stochastic".
    Returns:
      uint8 codes of x's shape.
    Raises:
      RangeError: overflow is "raise" and an element overflows; NaN in x and the grid has no NaN.
      UnknownName: no such grid.
    """
    if kind == "e8m0":
        return _cast_e8m0(x, rounding, overflow)
    if rounding in ("up", "down"):
        raise RangeError(f'rounding={rounding!r} is defined for e8m0 only; use "nearest" or "stochastic" for {kind}')
    row = minifloat(kind)
    x = x if x.dtype in (torch.float32, torch.float64) else x.float()
    nan = torch.isnan(x)
    if row.nan is None and bool(nan.any()):
        raise RangeError(f"NaN cannot be stored as {kind}, which has none")
    magnitude = round_magnitude(
        x.nan_to_num(nan=0.0, posinf=torch.inf, neginf=-torch.inf).abs(), row, rounding, generator
    )
    over = magnitude > row.max
    if overflow == "raise" and bool(over.any()):
        worst = x[over].abs().max().item()
        raise RangeError(
            f'{worst:g} exceeds {kind}\'s maximum {row.max:g}; choose a larger scale, or pass overflow="saturate"'
        )
    code = magnitude_code(magnitude.clamp(max=row.max), row)
    if overflow == "nonfinite" and (special := row.infinity or row.nan) is not None:
        code = torch.where(over, special, code)
    if row.nan is not None:
        code = torch.where(nan, row.nan, code)
    sign = torch.signbit(x).to(torch.int32) << (row.bits - 1)
    return (code | sign).to(torch.uint8)


def uncast(codes: Tensor, kind: str, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """Value of each code; exact in float32 for every grid here."""
    table = _values(kind).to(device=codes.device, dtype=dtype)
    return table[codes.long()]


@cache
def _values(kind: str) -> Tensor:
    if kind == "e8m0":
        exponents = torch.arange(256, dtype=torch.float64) - E8M0_BIAS
        values = torch.exp2(exponents)
        values[255] = torch.nan
        return values
    row = minifloat(kind)
    codes = torch.arange(1 << row.bits, dtype=torch.int64)
    magnitude = codes & ((1 << (row.bits - 1)) - 1)
    exponent, mantissa = magnitude >> row.mantissa_bits, magnitude & ((1 << row.mantissa_bits) - 1)
    fraction = mantissa.double() / (1 << row.mantissa_bits) + (exponent > 0)
    values = fraction * torch.exp2((exponent.clamp(min=1) - row.bias).double())
    if row.infinity is not None:
        values = torch.where(magnitude > row.infinity, torch.nan, values)
        values = torch.where(magnitude == row.infinity, torch.inf, values)
    elif row.nan is not None:
        values = torch.where(magnitude == row.nan, torch.nan, values)
    return torch.where(codes >> (row.bits - 1) > 0, -values, values)


def round_magnitude(
    magnitude: Tensor, row: Minifloat, rounding: str = "nearest", generator: torch.Generator | None = None
) -> Tensor:
    """Nearest (or stochastically chosen) multiple of the local step; may exceed ``row.max`` by rounding up."""
    step = spacing(magnitude, row)
    units = magnitude / step
    if rounding == "nearest":
        return torch.round(units) * step
    noise = torch.rand(units.shape, generator=generator, dtype=units.dtype, device=units.device)
    return torch.where(torch.isfinite(units), torch.floor(units + noise), units) * step


# Where the exponent sits in a type's bits: integer of the same width, mantissa bits, bias.
FIELDS = {torch.float32: (torch.int32, 23, 127), torch.float64: (torch.int64, 52, 1023)}


def _exponent(magnitude: Tensor) -> Tensor:
    """floor(log2) of each magnitude from its exponent field; -bias for 0 and for subnormals of its own type."""
    integer, bits, bias = FIELDS[magnitude.dtype]
    return ((magnitude.view(integer) >> bits) - bias).to(torch.int32)


def _power_of_two(exponent: Tensor, dtype: torch.dtype) -> Tensor:
    """2^exponent, for exponents of normal numbers."""
    integer, bits, bias = FIELDS[dtype]
    return ((exponent.to(integer) + bias) << bits).view(dtype)


def spacing(magnitude: Tensor, row: Minifloat) -> Tensor:
    """Distance between grid neighbours around each magnitude, a power of two."""
    exponent = _exponent(magnitude).clamp_(min=row.min_exponent, max=row.max_exponent + 1)
    return _power_of_two(exponent - row.mantissa_bits, magnitude.dtype)


def magnitude_code(magnitude: Tensor, row: Minifloat) -> Tensor:
    """int32 code of magnitudes that lie on the grid: a magnitude is ``units`` steps, and codes count steps per binade."""
    exponent = _exponent(magnitude).clamp_(min=row.min_exponent)
    units = (magnitude / _power_of_two(exponent - row.mantissa_bits, magnitude.dtype)).to(torch.int32)
    return ((exponent - row.min_exponent) << row.mantissa_bits) + units


def _cast_e8m0(x: Tensor, rounding: str, overflow: Overflow) -> Tensor:
    """Biased exponent; non-positive and NaN inputs have none and become 0xFF, or 0 for exact zero."""
    if rounding == "stochastic":
        raise RangeError('rounding="stochastic" is not defined for e8m0; use "nearest", "up" or "down"')
    mantissa, exponent = torch.frexp(x.double())
    exponent = exponent - 1  # x = (2 * mantissa) * 2^exponent, 2 * mantissa in [1, 2)
    above = {"down": torch.zeros_like(mantissa, dtype=torch.bool), "up": mantissa > 0.5}.get(rounding)
    if above is None:
        above = (mantissa > 0.75) | ((mantissa == 0.75) & ((exponent + E8M0_BIAS) % 2 == 1))
    code = exponent + above.to(exponent.dtype) + E8M0_BIAS
    over = code > 254
    if overflow == "raise" and bool(over.any()):
        raise RangeError(f'{x[over].max().item():g} exceeds e8m0\'s maximum 2^127; pass overflow="saturate"')
    code = torch.where(over, 254 if overflow == "saturate" else 255, code.clamp(min=0))
    code = torch.where(x == 0, 0, code)
    code = torch.where(torch.isinf(x) & (x > 0), 254 if overflow == "saturate" else 255, code)
    return torch.where(torch.isnan(x) | (x < 0), 255, code).to(torch.uint8)

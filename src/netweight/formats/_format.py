"""What a number format is: a frozen row of data, and how names become rows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Literal

from netweight import registry
from netweight.errors import FormatError, UnknownName, nearest

ROOM = "netweight.formats"
SCALE_BITS = {"fp16": 16, "fp32": 32, "e8m0": 8, "e4m3": 8, "u8": 8, "u6": 6}
TWO_LEVEL = ("u8", "u6")  # whole numbers, under a float16 scale for each row
WORD_BITS = {"int": 32}  # rows of integer codes are padded to whole 32-bit words, all others to bytes
WHOLE_ROW, WHOLE_TENSOR = 0, -1


@dataclass(frozen=True)
class Format:
    """One number format for a matrix whose rows are outputs and whose columns are the reduction.

    ``group`` columns (and ``rows`` rows) share a scale; ``WHOLE_ROW`` and ``WHOLE_TENSOR`` say what they mean.
    """

    name: str
    family: str  # the file in formats/ that knows the arithmetic
    element: str  # "int", "e2m1", ..., "nf4", "ternary"
    bits: int  # of one unpacked code
    group: int
    scale: Literal["fp16", "fp32", "e8m0", "e4m3", "u8", "u6"]
    zero: Literal["none", "packed", "fp16"] = "none"
    rows: int = 1
    tensor_scale: bool = False  # a second-level float32 scale
    ragged: bool = False
    source: str = ""

    def grid(self, shape: tuple[int, int]) -> tuple[int, int]:
        """(R, G): how many scales there are down and across a matrix of this shape.

        Raises:
          FormatError: the group or block does not divide the shape and the format is not ragged.
        """
        outputs, inputs = shape
        if outputs < 1 or inputs < 1:
            raise FormatError(f"{self.name}: a matrix of shape {outputs} x {inputs} holds nothing to quantize")
        if self.group == WHOLE_TENSOR:
            return 1, 1
        group = self.group or inputs
        if not self.ragged and (inputs % group or outputs % self.rows):
            raise FormatError(self._misfit(outputs, inputs, group))
        return math.ceil(outputs / self.rows), math.ceil(inputs / group)

    def _misfit(self, outputs: int, inputs: int, group: int) -> str:
        if inputs % group:
            fits = [str(g) for g in (16, 32, 64, 96, 128, 192, 256) if inputs % g == 0]
            hint = f"groups that do: {', '.join(fits)}" if fits else "no common group does"
            return f"{self.name}: group {group} does not divide {inputs} columns ({hint}); or use {self.name}-ragged"
        return f"{self.name}: blocks of {self.rows} rows do not divide {outputs} rows; or use {self.name}-ragged"

    @property
    def two_level(self) -> bool:
        """Are a row's scales whole numbers under a float16 scale of the row?"""
        return self.scale in TWO_LEVEL

    def scale_row_bytes(self, groups: int) -> int:
        """Bytes of one row of scales; a two-level format's own scale of the row not counted."""
        return math.ceil(groups * SCALE_BITS[self.scale] / 8)

    def packed_row_bytes(self, inputs: int) -> int:
        """Bytes of one row of codes."""
        if self.element == "ternary":
            return math.ceil(inputs / 5)
        word = WORD_BITS.get(self.element, 8)
        return math.ceil(inputs * self.bits / word) * word // 8

    def nbytes(self, shape: tuple[int, int]) -> int:
        """Bytes of codes, scales, zeros and tensor scale for a matrix of this shape: what ``pack`` gives."""
        rows, groups = self.grid(shape)
        zeros = {"none": 0, "fp16": 2 * rows * groups, "packed": math.ceil(rows * self.bits / 32) * 4 * groups}[
            self.zero
        ]
        scales = rows * (self.scale_row_bytes(groups) + 2 * self.two_level)
        return shape[0] * self.packed_row_bytes(shape[1]) + scales + zeros + 4 * self.tensor_scale

    def bits_per_weight(self, shape: tuple[int, int] | None = None) -> float:
        """Stored bits per weight, scales and zeros counted; without a shape, for an endless matrix."""
        if shape is not None:
            return 8 * self.nbytes(shape) / (shape[0] * shape[1])
        code = 1.6 if self.element == "ternary" else self.bits
        if self.group <= 0:
            return float(code)
        zero = {"none": 0, "packed": self.bits, "fp16": 16}[self.zero]
        return code + (SCALE_BITS[self.scale] + zero) / (self.group * self.rows)

    @property
    def arithmetic(self) -> ModuleType:
        """The family's file: ``fit``, ``to_codes``, ``from_codes``."""
        return _arithmetic(self.family)


@cache
def _arithmetic(family: str) -> ModuleType:
    """Looked up once: the column-by-column methods ask for it thousands of times."""
    return registry.find(ROOM, family)


def families() -> tuple[str, ...]:
    return registry.names(ROOM)


@cache
def get(name: str) -> Format:
    """The format of this name.

    Raises:
      UnknownName: no family knows the name; the nearest canonical name is offered.
      FormatError: the name is understood but asks for something impossible (such as a group of 0).
    """
    plain, ragged = name.removesuffix("-ragged"), name.endswith("-ragged")
    for family in families():
        if (row := registry.find(ROOM, family).parse(plain)) is not None:
            return Format(**{**row.__dict__, "name": name, "ragged": ragged})
    raise UnknownName(f"{name!r} is not a format{nearest(name, [row.name for row in catalogue()])}")


@cache
def catalogue() -> tuple[Format, ...]:
    """Every canonical row of every family."""
    return tuple(get(name) for family in families() for name in registry.find(ROOM, family).NAMES)


def group_of(text: str) -> int | None:
    """``"g64"``, ``"channel"``, ``"tensor"`` as a number of columns; None if it is none of these."""
    if text in ("channel", "tensor"):
        return WHOLE_ROW if text == "channel" else WHOLE_TENSOR
    if text.startswith("g") and text[1:].isdigit() and text[1] != "0":
        return int(text[1:])
    return None

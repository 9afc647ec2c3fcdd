"""A weight source that gives another source's tensors rotated, one at a time, computed when they are asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from netweight.errors import ModelError
from netweight.models._hadamard import Rotation
from netweight.models._weights import DTYPES, LiveSource, WeightSource, type_name

CHUNK = 1 << 20  # elements in float64 at once
SMALL = ("F16", "BF16")


@dataclass(frozen=True, eq=False)
class Turn:
    """How one tensor W comes of the original's: W diag(g) R for what reads a rotated stream, R^T W for what writes one.

    A bias is one column. ``rows`` turns the rows from ``first_row`` on; ``transposed`` tensors are stored as (inputs, outputs).
    """

    of: str  # name in the original source
    norm: str = ""  # name of the tensor g that multiplies the columns
    columns: Rotation | None = None
    rows: Rotation | None = None
    first_row: int = 0
    transposed: bool = False


@dataclass(frozen=True, eq=False)
class RotatedSource:
    """Sums in float64, rounded once.

    ``ones`` are the norms whose weights other tensors took up, ``added`` what the original holds under another name only.
    ``small`` tensors come in the type the original holds them in where that is a float of 16 bits, all other turned ones in
    ``dtype``.
    """

    original: WeightSource
    turns: Mapping[str, Turn]
    ones: frozenset[str]
    added: frozenset[str]
    dtype: torch.dtype
    small: frozenset[str] = frozenset()

    @property
    def files(self) -> tuple[Path, ...]:
        return self.original.files

    def names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.original.names(), *self.turns)))

    def shape(self, name: str) -> tuple[int, ...]:
        return self.original.shape(self._of(name))

    def nbytes(self, name: str) -> int:
        """As the original stores it, before it was rotated."""
        return 0 if name in self.added else self.original.nbytes(self._of(name))

    def stored_as(self, name: str) -> str:
        """The type it comes in."""
        return type_name(self._type(name)) if name in self.turns else self.original.stored_as(name)

    def load(self, name: str) -> Tensor:
        """Raises: ModelError: of the original source, or a rotated element that its 16-bit type cannot hold."""
        if name in self.ones:
            return torch.ones(self.shape(name), dtype=self.dtype)
        tensor = self.original.load(self._of(name))
        if (turn := self.turns.get(name)) is None:
            # a live module's own tensor: what is filled with it may be written to
            return tensor.clone() if isinstance(self.original, LiveSource) else tensor
        gain = self.original.load(turn.norm) if turn.norm else None
        value = _turned(tensor, turn, gain, self._type(name))
        if not torch.isfinite(value).all() and torch.isfinite(tensor).all():
            raise ModelError(
                f"{name}: rotated, its largest element is more than {type_name(value.dtype)} holds, which the original is "
                "stored in; name its layer in a rounding step, such as rtn with only = [...]"
            )
        return value

    def with_small(self, names: frozenset[str]) -> RotatedSource:
        """The same tensors, those of these names in the type they were stored in."""
        return replace(self, small=names & self.turns.keys())

    def _of(self, name: str) -> str:
        return self.turns[name].of if name in self.turns else name

    def _type(self, name: str) -> torch.dtype:
        held = self.original.stored_as(self._of(name))
        return DTYPES[held] if name in self.small and held in SMALL else self.dtype


def _turned(tensor: Tensor, turn: Turn, gain: Tensor | None, dtype: torch.dtype) -> Tensor:
    """The tensor as its turn says, in the shape it is stored in."""
    matrix_OI = tensor.reshape(-1, 1) if tensor.dim() == 1 else tensor.T if turn.transposed else tensor
    if turn.columns is not None or gain is not None:
        between = dtype if turn.rows is None else torch.float64
        matrix_OI = _by_columns(matrix_OI, turn.columns, gain, between)
    if turn.rows is not None:
        matrix_OI = _by_rows(matrix_OI, turn.rows, turn.first_row, dtype)
    return (matrix_OI.T.contiguous() if turn.transposed else matrix_OI).reshape(tensor.shape)


def _by_columns(matrix_OI: Tensor, rotation: Rotation | None, gain: Tensor | None, dtype: torch.dtype) -> Tensor:
    found = torch.empty(matrix_OI.shape, dtype=dtype)
    at_once = max(1, CHUNK // matrix_OI.shape[1])
    for start in range(0, len(matrix_OI), at_once):
        part = matrix_OI[start : start + at_once].double()
        part = part if gain is None else part * gain.double()
        found[start : start + at_once] = part if rotation is None else rotation.turned(part)
    return found


def _by_rows(matrix_OI: Tensor, rotation: Rotation, first: int, dtype: torch.dtype) -> Tensor:
    found = matrix_OI.to(dtype, copy=True, memory_format=torch.contiguous_format)
    at_once = max(1, CHUNK // len(matrix_OI))
    for start in range(0, matrix_OI.shape[1], at_once):
        part = matrix_OI[first:, start : start + at_once].double()
        found[first:, start : start + at_once] = rotation.turned(part.T.contiguous()).T
    return found

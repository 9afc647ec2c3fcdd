"""The ledger: for every module what was done to it, in which format, with which error, or why it was left alone."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Literal

from netweight.errors import ArtifactError


@dataclass(frozen=True)
class Row:
    """One module's fate.

    ``weight_error`` is ||W' - W|| / ||W|| against the weight the rounding step was given; ``output_error`` the same for
    the layer's output on calibration data, sqrt(tr(D H D^T) / tr(W H W^T)) with D = W' - W and H the input's second
    moment.
    ``samples`` counts calibration rows (tokens, pixels) the layer saw. ``planned`` rows have no errors yet.
    """

    module: str
    kind: str  # linear, conv2d, embedding, ...
    shape: tuple[int, ...]  # (O, I) of the weight as a matrix
    action: Literal["planned", "quantized", "left"]
    format: str = ""
    steps: tuple[str, ...] = ()
    bytes_before: int = 0
    bytes_after: int = 0
    weight_error: float | None = None
    output_error: float | None = None
    samples: int = 0
    reason: str = ""  # why it was left alone
    tied_to: str = ""
    notes: tuple[str, ...] = ()  # what a reader must know: damping raised, columns never active
    fallback: bool = False  # something other than what the recipe asked for was done


@dataclass(frozen=True)
class Ledger:
    """Rows in model order."""

    rows: tuple[Row, ...] = field(default_factory=tuple)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def quantized(self) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.action == "quantized")

    def left(self) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.action == "left")

    def fallbacks(self) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.fallback)

    def to_jsonl(self) -> str:
        return "".join(json.dumps(asdict(row), sort_keys=True, allow_nan=False) + "\n" for row in self.rows)

    @staticmethod
    def from_jsonl(text: str) -> Ledger:
        """Raises: ArtifactError: a line is not a ledger row."""
        return Ledger(tuple(_row(line) for line in text.splitlines() if line.strip()))


def merge(ledgers: Iterable[Ledger]) -> Ledger:
    return Ledger(tuple(row for ledger in ledgers for row in ledger))


def _row(line: str) -> Row:
    try:
        values = json.loads(line)
        for name in ("shape", "steps", "notes"):
            values[name] = tuple(values[name])
        return Row(**values)
    except (ValueError, TypeError, KeyError) as error:
        raise ArtifactError(f"not a ledger row: {line[:120]!r} ({error})") from error

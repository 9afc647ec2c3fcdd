"""Rows of a study's table as numbers by what they are of, and what each setting lost against its baseline."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from netweight.errors import DataError

Row = Mapping[str, Any]


def cells_of(table: Sequence[Row], columns: Sequence[str], value: str) -> dict[tuple[str, ...], float]:
    """Values by the text of the columns; rows without a finite value (failures) are left out.

    Raises:
      DataError: a row lacks a column, or two rows are of the same cell.
    """
    found: dict[tuple[str, ...], float] = {}
    for number, row in enumerate(table):
        if missing := [name for name in columns if name not in row]:
            raise DataError(f"row {number} of the table has no {missing[0]!r}; it has {', '.join(map(str, row))}")
        if row.get(value) is None or not math.isfinite(row[value]):
            continue
        key = tuple(str(row[name]) for name in columns)
        if key in found:
            raise DataError(f"two rows are of {', '.join(key)}; name the column that tells them apart")
        found[key] = float(row[value])
    return found


def lost(
    table: Sequence[Row],
    *,
    axis: str,
    baseline: str,
    within: Sequence[str],
    value: str,
    better: Literal["lower", "higher"] = "higher",
) -> list[dict[str, Any]]:
    """Rows of what every setting lost against the baseline of the same other columns, under "lost"; positive is worse.

    Rows of the baseline, those without a number, and those whose baseline has none are left out.

    Args:
      axis, baseline: the column that is compared, and the value that the others are compared with.
      within: the columns in which a row and its baseline are alike, such as architecture, scale and seed.
    Raises:
      DataError: as ``cells_of``; or no row has a baseline.
    """
    cells = cells_of(table, (*within, axis), value)
    sign = 1.0 if better == "higher" else -1.0
    made = []
    for key, number in cells.items():
        base = cells.get((*key[:-1], baseline))
        if key[-1] != baseline and base is not None:
            made.append({**dict(zip((*within, axis), key, strict=True)), "lost": sign * (base - number)})
    if not made:
        raise DataError(f"no row has a baseline {axis} = {baseline} with the same {', '.join(within)}")
    return made

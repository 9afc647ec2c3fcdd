"""The ledger as the report shows it: groups of layers with one fate, layers with notes or fallbacks, and every row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from netweight.evidence._input import ReportInput, bits_per_weight, elements, headings
from netweight.evidence._numbers import MISSING, number, quantity
from netweight.ledger import Ledger, Row


@dataclass(frozen=True)
class LedgerGroup:
    """Layers that share a fate."""

    what: str
    reason: str
    kind: str
    layers: str
    size: str
    bits: str
    output_error: str
    weight_error: str


@dataclass(frozen=True)
class LedgerRow:
    module: str
    kind: str
    shape: str
    what: str
    size: str
    output_error: str
    weight_error: str
    samples: str
    remarks: tuple[str, ...]
    fallback: bool


@dataclass(frozen=True)
class LedgerView:
    title: str
    groups: tuple[LedgerGroup, ...]
    remarked: tuple[LedgerRow, ...]
    rows: tuple[LedgerRow, ...]


def ledgers(inputs: Sequence[ReportInput]) -> tuple[LedgerView, ...]:
    """One view per artifact: layers that share a fate together, those with notes, and all of them."""
    shown = headings(inputs)
    return tuple(_ledger(shown[i.name], i.ledger) for i in inputs)


def _ledger(title: str, ledger: Ledger) -> LedgerView:
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in ledger:
        groups.setdefault((_what(row), row.reason, row.kind), []).append(row)
    rows = [_ledger_row(row) for row in ledger]
    return LedgerView(
        title,
        tuple(_group(*key, found) for key, found in groups.items()),
        tuple(row for row in rows if row.fallback or row.remarks),
        tuple(rows),
    )


def _what(row: Row) -> str:
    if row.action == "left":
        return "left alone"
    return f"{row.action} as {row.format or 'unnamed format'}" + (f" by {' + '.join(row.steps)}" if row.steps else "")


def _group(what: str, reason: str, kind: str, rows: Sequence[Row]) -> LedgerGroup:
    own = [row for row in rows if not row.tied_to]
    before, after = sum(row.bytes_before for row in own), sum(row.bytes_after for row in own)
    bits = bits_per_weight(rows)
    tied = f"shared with {rows[0].tied_to}" if all(row.tied_to for row in rows) else ""
    sizes = f"{quantity(before, 'bytes')} → {quantity(after, 'bytes')}" if bits else tied or "not recorded"
    return LedgerGroup(
        what=what,
        reason=reason,
        kind=kind,
        layers=f"{len(rows)}",
        size=sizes,
        bits=number(bits) if bits else tied or "not recorded",
        output_error=_spread([row.output_error for row in rows], rows),
        weight_error=_spread([row.weight_error for row in rows], rows),
    )


def _spread(values: Sequence[float | None], rows: Sequence[Row]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "unchanged" if all(row.action == "left" for row in rows) else MISSING
    several = f"median {_error(median(known))}, largest {_error(max(known))}" if len(known) > 1 else _error(known[0])
    return several + (f" ({len(values) - len(known)} {MISSING})" if len(known) < len(values) else "")


def _ledger_row(row: Row) -> LedgerRow:
    remarks = ("FALLBACK",) if row.fallback and not row.notes else ()
    size = f"{quantity(row.bytes_before, 'bytes')} → {quantity(row.bytes_after, 'bytes')}"
    unchanged = "unchanged" if row.action == "left" else MISSING
    return LedgerRow(
        module=row.module or "(the model itself)",
        kind=row.kind,
        shape=" × ".join(map(str, row.shape)) if elements(row) else "no shape",
        what=_what(row)
        + (f": {row.reason}" if row.reason else "")
        + (f" (tied to {row.tied_to})" if row.tied_to else ""),
        size=size
        if row.bytes_before and row.bytes_after
        else f"shared with {row.tied_to}"
        if row.tied_to
        else "not recorded",
        output_error=unchanged if row.output_error is None else _error(row.output_error),
        weight_error=unchanged if row.weight_error is None else _error(row.weight_error),
        samples=f"{row.samples:,}" if row.samples else "none",
        remarks=(*remarks, *row.notes),
        fallback=row.fallback,
    )


def _error(value: float) -> str:
    return f"{value:.3g}"

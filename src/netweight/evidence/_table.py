"""The verdict table: original against each artifact, metric by metric. One row builder; rich, Markdown and HTML show it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from netweight.claim import Claim
from netweight.evidence._numbers import MISSING, number, short_hash, visible
from netweight.evidence._words import (
    BITS,
    OWN_PLACES,
    SIZE,
    Cell,
    Places,
    Tone,
    claim_cell,
    data_name,
    is_exact,
    metric_name,
    shared_places,
)

if TYPE_CHECKING:
    from rich.table import Table

Key = tuple[str, str, str, str]


@dataclass(frozen=True)
class MetricRow:
    """One metric: its name, what it was measured on, and a cell per subject."""

    label: str
    detail: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class VerdictTable:
    subjects: tuple[str, ...]
    rows: tuple[MetricRow, ...]


def verdict_table(
    claims_by_subject: Mapping[str, Sequence[Claim]],
    *,
    original: str | None = None,
    decimals: Literal["own", "shared"] = "own",
) -> VerdictTable:
    """A row for each metric and data set, a column for each subject.

    The first subject is the original unless ``original`` names another, or with "" none: then each cell names what it was compared with.
    Claims are put side by side when metric, unit, settings and data are equal. Where a subject has no such claim,
    the cell says so. Each number has the decimals that its ``own`` interval supports, or those ``shared`` by its row.
    """
    subjects = tuple(claims_by_subject)
    found: dict[Key, dict[str, list[Claim]]] = {}
    for subject, claims in claims_by_subject.items():
        for claim in claims:
            found.setdefault(key_of(claim), {}).setdefault(subject, []).append(claim)
    labels = _labels({key: next(iter(row.values()))[0] for key, row in found.items()})
    if original is None:
        original = next(iter(subjects), "")
    rows = [
        MetricRow(*labels[key], _cells(row, subjects, original, _places(row) if decimals == "shared" else OWN_PLACES))
        for key, row in found.items()
    ]
    return VerdictTable(subjects, tuple(rows))


def summary_table(claims_by_subject: Mapping[str, Sequence[Claim]]) -> Table:
    """The verdict table for a terminal. Names are shown literally: rich markup in them has no effect."""
    from rich.table import Table
    from rich.text import Text

    styles: dict[Tone, str] = {"good": "green", "bad": "red", "warn": "yellow", "plain": "", "missing": "dim"}
    table = verdict_table(claims_by_subject)
    shown = Table(show_lines=True)
    for heading in ("", *table.subjects):
        shown.add_column(Text(visible(heading)), overflow="fold")
    for row in table.rows:
        head = Text(visible(row.label)).append(f"\n{visible(row.detail)}", style="dim")
        cells = [Text(visible("\n".join(cell.lines())), style=styles[cell.tone]) for cell in row.cells]
        shown.add_row(head, *cells)
    return shown


def summary_markdown(claims_by_subject: Mapping[str, Sequence[Claim]]) -> str:
    """The verdict table as a Markdown pipe table, one line per metric, ending in a newline."""
    table = verdict_table(claims_by_subject)
    lines = [["", *map(_markdown, table.subjects)], ["---"] * (1 + len(table.subjects))]
    for row in table.rows:
        head = f"**{_markdown(row.label)}**" + (f" ({_markdown(row.detail)})" if row.detail else "")
        lines.append([head, *("<br>".join(map(_markdown, cell.lines())) for cell in row.cells)])
    return "".join("| " + " | ".join(cells) + " |\n" for cells in lines)


def key_of(claim: Claim) -> Key:
    """What must be equal for two claims to be compared: metric, unit, settings of the task, and the data's identity.

    ``settings["run"]`` (batch size and the like) cannot change a score; sizes need no data.
    """
    if claim.metric in (SIZE, BITS):
        return claim.metric, "", "", ""
    identity = {name: claim.data.get(name) for name in ("source", "split", "sha256")}
    settings, data = (json.dumps(part, sort_keys=True, default=str) for part in (_task(claim), identity))
    return claim.metric, claim.unit, settings, data


def _places(row: Mapping[str, Sequence[Claim]]) -> Places:
    return shared_places([claims[0] for claims in row.values() if claims[0].value is not None])


def _cells(
    row: Mapping[str, Sequence[Claim]], subjects: Sequence[str], original: str, places: Places
) -> tuple[Cell, ...]:
    return tuple(_cell(row, subject, original, places) for subject in subjects)


def _cell(row: Mapping[str, Sequence[Claim]], subject: str, original: str, places: Places) -> Cell:
    """One subject's cell. Exact numbers are compared as a ratio; random ones only where a paired comparison was made."""
    claims, ours = row.get(subject, ()), row.get(original, ())
    if not claims:
        by_definition = subject == original and any(_relative(claim) for found in row.values() for claim in found)
        return Cell("the reference itself" if by_definition else MISSING, tone="missing")
    claim, reference = claims[0], ours[0] if ours else None
    if not original:
        return _marked(_by_itself(claim, places), claims)
    cell = claim_cell(claim, original=reference.subject if reference else _reference(claim), places=places)
    if subject == original or claim.value is None:
        return _marked(cell, claims)
    if reference is None and claim.comparison and not claim.comparison.margin:
        # The value is itself the distance from the original: a difference would only repeat it.
        cell = replace(cell, difference="", verdict="", tone="plain")
    if is_exact(claim):
        cell = replace(cell, difference=_ratio(claim, reference) if reference else "")
    elif claim.comparison is None and reference is not None and not _relative(claim):
        cell = replace(cell, verdict="not compared")
    return _marked(cell, claims)


def _by_itself(claim: Claim, places: Places) -> Cell:
    """The cell where no subject is the original."""
    cell = claim_cell(claim, places=places)
    over = claim.settings.get("run", {}).get("reference")
    return replace(cell, difference=f"over that of {over}") if claim.metric.endswith("_ratio") and over else cell


def _relative(claim: Claim) -> bool:
    """Can this number exist only beside the reference's?"""
    return claim.comparison is not None or claim.metric.endswith("_ratio")


def _reference(claim: Claim) -> str:
    return claim.comparison.reference if claim.comparison else ""


def _marked(cell: Cell, claims: Sequence[Claim]) -> Cell:
    if len({claim.value for claim in claims}) < 2:
        return cell
    return replace(cell, note=f"first of {len(claims)} differing measurements, see all claims")


def _ratio(claim: Claim, reference: Claim) -> str:
    if not claim.value or not reference.value or not is_exact(reference):
        return ""
    ratio = claim.value / reference.value
    if ratio == 1:
        return "the same as the original"
    return f"{number(max(ratio, 1 / ratio), 2)}× {'smaller' if ratio < 1 else 'larger'}"


def _labels(claims: Mapping[Key, Claim]) -> dict[Key, tuple[str, str]]:
    """Name and detail of each row; rows that would read the same are told apart by the settings that differ."""
    plain = {key: (metric_name(claim.metric), _detail(claim)) for key, claim in claims.items()}
    return {
        key: (plain[key][0], ", ".join(filter(None, [plain[key][1], *_differing(key, claims, plain)])))
        for key in claims
    }


def _differing(key: Key, claims: Mapping[Key, Claim], plain: Mapping[Key, tuple[str, str]]) -> list[str]:
    twins = [_identity(claims[other]) for other in claims if plain[other] == plain[key] and other != key]
    ours = _identity(claims[key])
    return [f"{name} {ours[name]}" for name in sorted(ours) if any(twin.get(name) != ours[name] for twin in twins)]


def _identity(claim: Claim) -> dict[str, Any]:
    return {**_task(claim), "SHA-256": short_hash(claim.data.get("sha256")), "unit": claim.unit}


def _task(claim: Claim) -> dict[str, Any]:
    return {name: value for name, value in claim.settings.items() if name != "run"}


def _detail(claim: Claim) -> str:
    if claim.metric in (SIZE, BITS):
        return "all layers, scales and metadata included" if claim.metric == BITS else ""
    direction = {"lower": "lower is better", "higher": "higher is better", "neither": ""}[claim.better]
    return ", ".join(part for part in (data_name(claim), direction) if part)


def _markdown(text: str) -> str:
    """The text with what Markdown or HTML would read as markup made literal, on one line."""
    line = " ".join(visible(text).split("\n"))
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~])", r"\\\1", line)

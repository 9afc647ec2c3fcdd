"""The verdict table: original against each artifact, metric by metric. One row builder; rich, Markdown and HTML show it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from netweight.claim import Claim, Comparison
from netweight.evidence._numbers import MISSING, Scale, decimals, number, scale, visible, with_unit

if TYPE_CHECKING:
    from rich.table import Table

Tone = Literal["good", "bad", "warn", "plain", "missing"]
Key = tuple[str, str, str, str]

SIZE = "bytes_on_disk"
BITS = "bits_per_weight"
NAMES = {
    SIZE: "size on disk",
    BITS: "bits per weight",
    "bytes_in_memory": "size in memory",
    "kl_divergence": "KL divergence",
    "ece": "calibration error (ECE)",
    "top1_accuracy": "top-1 accuracy",
    "top1_agreement": "top-token agreement",
}


@dataclass(frozen=True)
class Cell:
    """What one subject scored, in words: every field is ready to print, empty where there is nothing to say."""

    value: str
    interval: str = ""
    difference: str = ""
    verdict: str = ""
    tone: Tone = "plain"
    provenance: str = "missing"
    note: str = ""

    def lines(self) -> tuple[str, ...]:
        return tuple(line for line in (self.value, self.interval, self.difference, self.verdict, self.note) if line)


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


def verdict_table(claims_by_subject: Mapping[str, Sequence[Claim]]) -> VerdictTable:
    """A row for each metric and data set, a column for each subject; the first subject is the original.

    Claims are put side by side when metric, unit, settings and data are equal. Where a subject has no such claim,
    the cell says so.
    """
    subjects = tuple(claims_by_subject)
    found: dict[Key, dict[str, list[Claim]]] = {}
    for subject, claims in claims_by_subject.items():
        for claim in claims:
            found.setdefault(key_of(claim), {}).setdefault(subject, []).append(claim)
    labels = _labels({key: next(iter(row.values()))[0] for key, row in found.items()})
    original = subjects[0] if subjects else ""
    rows = [MetricRow(*labels[key], tuple(_cell(row, subject, original) for subject in subjects)) for key, row in found.items()]
    return VerdictTable(subjects, tuple(rows))


def summary_table(claims_by_subject: Mapping[str, Sequence[Claim]]) -> Table:
    """The verdict table for a terminal. Names are shown literally: rich markup in them has no effect."""
    from rich.table import Table
    from rich.text import Text

    styles: dict[Tone, str] = {"good": "green", "bad": "red", "warn": "yellow", "plain": "", "missing": "dim"}
    table = verdict_table(claims_by_subject)
    shown = Table(show_lines=True)
    for heading in ("", *table.subjects):
        shown.add_column(Text(visible(heading)))
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
    """What must be equal for two claims to be compared: metric, unit, settings, data; sizes need no data."""
    if claim.metric in (SIZE, BITS):
        return claim.metric, claim.unit, "", ""
    settings, data = (json.dumps(part, sort_keys=True, default=str) for part in (claim.settings, claim.data))
    return claim.metric, claim.unit, settings, data


def metric_name(metric: str) -> str:
    return NAMES.get(metric, metric.replace("_", " "))


def data_name(claim: Claim) -> str:
    """Where the items came from: ``source/split``, as far as the claim records it."""
    source, split = str(claim.data.get("source") or ""), str(claim.data.get("split") or "")
    return source if not split or source.endswith(f"/{split}") else f"{source}/{split}".strip("/")


def claim_cell(claim: Claim, *, original: str = "") -> Cell:
    """One claim in words; the verdict names the reference when that is not ``original``."""
    if claim.provenance == "unavailable" or claim.value is None:
        why = f"unavailable: {claim.note}" if claim.note else "unavailable"
        return Cell(why, tone="missing", provenance="unavailable")
    value, interval = value_and_interval(claim)
    difference, verdict, tone = "", "", "plain"
    if claim.comparison is not None:
        difference, verdict, tone = _compared(claim, claim.comparison)
        if claim.comparison.reference != original:
            difference += f" against {claim.comparison.reference}"
    note = "estimated, not measured" if claim.provenance == "estimated" else ""
    return Cell(value, interval, difference, verdict, tone, claim.provenance, note)


def value_and_interval(claim: Claim) -> tuple[str, str]:
    """The value with its unit, and its interval in words, in the same unit and to the same place."""
    shown = scale(claim.unit, claim.value, metric=claim.metric)
    low, high, value = (_divided(x, shown.factor) for x in (claim.low, claim.high, claim.value))
    places = decimals(low, high)
    text = with_unit(number(value, places), shown.unit)
    if low is None or high is None:
        return text, "exact" if claim.provenance == "measured" else "no interval"
    return text, f"{claim.level * 100:g}\u00a0% interval {number(low, places)} to {number(high, places)}"


def _cell(row: Mapping[str, Sequence[Claim]], subject: str, original: str) -> Cell:
    claims = row.get(subject, ())
    if not claims:
        return Cell(MISSING, tone="missing")
    claim, reference = claims[0], next(iter(row.get(original, ())), None)
    cell = claim_cell(claim, original=reference.subject if reference else original)
    if subject == original or claim.value is None:
        return _marked(cell, claims)
    if claim.comparison is None and reference is not None and reference.value:
        exact = claim.low is None and reference.low is None
        words = _ratio(claim, claim.value / reference.value) if exact else ""
        cell = Cell(cell.value, cell.interval, words, "" if exact else "not compared", "plain", cell.provenance, cell.note)
    return _marked(cell, claims)


def _marked(cell: Cell, claims: Sequence[Claim]) -> Cell:
    if len({claim.value for claim in claims}) < 2:
        return cell
    note = f"first of {len(claims)} differing measurements, see all claims"
    return Cell(cell.value, cell.interval, cell.difference, cell.verdict, cell.tone, cell.provenance, note)


def _ratio(claim: Claim, ratio: float) -> str:
    if ratio <= 0 or ratio == 1:
        return "the same as the original" if ratio == 1 else ""
    word = "smaller" if ratio < 1 else "larger"
    return f"{number(max(ratio, 1 / ratio), 2)}× {word}"


def _compared(claim: Claim, comparison: Comparison) -> tuple[str, str, Tone]:
    """Difference and verdict in words, and how good the news is."""
    shown = scale(claim.unit, claim.value, metric=claim.metric)
    low, high = comparison.low / shown.factor, comparison.high / shown.factor
    places = decimals(low, high)
    middle, lower, upper = (number(x, places, signed=True) for x in (comparison.difference / shown.factor, low, high))
    difference = f"difference {with_unit(middle, shown.difference_unit)} ({lower} to {upper})"
    return difference, *_verdict(claim, comparison, shown, places)


def _verdict(claim: Claim, comparison: Comparison, shown: Scale, places: int | None) -> tuple[str, Tone]:
    worse_low, worse_high = _worsening(claim, comparison)
    if comparison.margin is None or comparison.verdict is None:
        return _direction(claim, worse_low, worse_high)
    margin = "margin " + with_unit(number(comparison.margin / shown.factor), shown.difference_unit)
    most, least = (with_unit(number(abs(x) / shown.factor, places), shown.difference_unit) for x in (worse_high, worse_low))
    follows = "non-inferior" if worse_high < comparison.margin else "inferior" if worse_low > comparison.margin else "undecided"
    if comparison.verdict != follows:
        return f"{comparison.verdict} is stated, but the interval and {margin} say {follows}", "bad"
    if follows == "non-inferior":
        return f"non-inferior: at {f'most {most} worse' if worse_high > 0 else f'least {most} better'}, {margin}", "good"
    if follows == "inferior":
        return f"inferior: at least {least} worse, {margin}", "bad"
    return f"undecided: up to {most} worse, {margin}", "warn"


def _worsening(claim: Claim, comparison: Comparison) -> tuple[float, float]:
    """The interval of the change for the worse; where neither direction is better, of its size."""
    low, high = comparison.low, comparison.high
    if claim.better == "neither":
        return max(0.0, low, -high), max(abs(low), abs(high))
    return (low, high) if claim.better == "lower" else (-high, -low)


def _direction(claim: Claim, worse_low: float, worse_high: float) -> tuple[str, Tone]:
    if claim.better == "neither":
        return ("different" if worse_low > 0 else "no clear difference") + "; no margin stated", "plain"
    if worse_low <= 0 <= worse_high:
        return "no clear difference; no margin stated", "plain"
    return ("worse; no margin stated", "warn") if worse_low > 0 else ("better; no margin stated", "good")


def _labels(claims: Mapping[Key, Claim]) -> dict[Key, tuple[str, str]]:
    """Name and detail of each row; rows that would read the same are told apart by the settings that differ."""
    plain = {key: (metric_name(claim.metric), _detail(claim)) for key, claim in claims.items()}
    return {key: (plain[key][0], ", ".join(filter(None, [plain[key][1], *_differing(key, claims, plain)]))) for key in claims}


def _differing(key: Key, claims: Mapping[Key, Claim], plain: Mapping[Key, tuple[str, str]]) -> list[str]:
    twins = [claims[other] for other in claims if plain[other] == plain[key] and other != key]
    ours = {**claims[key].settings, **{f"data {name}": value for name, value in claims[key].data.items()}}
    theirs = [{**twin.settings, **{f"data {name}": value for name, value in twin.data.items()}} for twin in twins]
    return [f"{name} = {ours[name]}" for name in sorted(ours) if any(twin.get(name) != ours[name] for twin in theirs)]


def _detail(claim: Claim) -> str:
    if claim.metric in (SIZE, BITS):
        return "scales and metadata included" if claim.metric == BITS else ""
    direction = {"lower": "lower is better", "higher": "higher is better", "neither": ""}[claim.better]
    return ", ".join(part for part in (data_name(claim), direction) if part)


def _divided(value: float | None, factor: float) -> float | None:
    return None if value is None else value / factor


def _markdown(text: str) -> str:
    """The text with what Markdown or HTML would read as markup made literal, on one line."""
    line = " ".join(visible(text).split("\n"))
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~])", r"\\\1", line)

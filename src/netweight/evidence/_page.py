"""What the report says, section by section, as plain values ready for the template: no arithmetic happens in HTML."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from netweight.claim import Claim
from netweight.evidence._input import ReportInput, bits_per_weight, claims_by_subject, headings, original_name
from netweight.evidence._numbers import SILENT_UNITS, duration, number, quantity
from netweight.evidence._table import MetricRow, VerdictTable
from netweight.evidence._words import Cell, Tone, claim_cell, data_name, metric_name

TONES: tuple[Tone, ...] = ("good", "warn", "bad", "plain", "missing")
Facts = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Card:
    """One artifact at a glance."""

    title: str
    size: str
    size_note: str
    done: str
    verdicts: tuple[tuple[Tone, str, str], ...]  # tone, "2 non-inferior", the metrics meant


@dataclass(frozen=True)
class ClaimView:
    metric: str
    data: str
    subject: str
    cell: Cell
    n: str
    command: str
    facts: Facts


@dataclass(frozen=True)
class ArtifactView:
    """Recipe, hashes and parity of one artifact."""

    title: str
    facts: Facts
    parity: str
    parity_tone: Tone
    recipe: str


def cards(inputs: Sequence[ReportInput], table: VerdictTable) -> tuple[Card, ...]:
    shown = headings(inputs)
    return tuple(_card(i, shown[i.name], table) for i in inputs)


def environments(inputs: Sequence[ReportInput]) -> tuple[Facts, ...]:
    """The different machines and software the claims were measured on."""
    return environments_of([claim for i in inputs for claim in i.claims])


def environments_of(claims: Sequence[Claim]) -> tuple[Facts, ...]:
    return tuple(dict.fromkeys(facts(claim.environment) for claim in claims if claim.environment))


def claims(inputs: Sequence[ReportInput]) -> tuple[ClaimView, ...]:
    """Every claim given, once, the original's first."""
    given = {claim.to_json() for i in inputs for claim in i.claims}
    shown = {
        heading: [claim for claim in found if claim.to_json() in given]
        for heading, found in claims_by_subject(inputs).items()
    }
    return claim_views(shown, original_name(inputs), environments(inputs))


def claim_views(
    claims_by_heading: Mapping[str, Sequence[Claim]], original: str, known: Sequence[Facts]
) -> tuple[ClaimView, ...]:
    """These claims; ``known`` are the environments, which they name by number."""
    return tuple(
        _claim(claim, heading, original, known) for heading, found in claims_by_heading.items() for claim in found
    )


def artifacts(inputs: Sequence[ReportInput]) -> tuple[ArtifactView, ...]:
    shown = headings(inputs)
    return tuple(
        ArtifactView(shown[i.name], _artifact_facts(i), *_parity(i.manifest.get("parity")), i.recipe_toml.strip())
        for i in inputs
    )


def facts(values: Mapping[str, Any]) -> Facts:
    """Plain nested data as label and text, in the order of the keys; what is None or empty reads "not recorded"."""
    found: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            found.append((str(key), ", ".join(f"{k} {_plain(v)}" for k, v in value.items())))
        else:
            found.append((str(key), _plain(value)))
    return tuple(found)


def _card(report_input: ReportInput, title: str, table: VerdictTable) -> Card:
    column = table.subjects.index(title)
    size = table.rows[0].cells[column]
    bits = bits_per_weight(report_input.ledger.quantized())
    known = [
        f"{size.difference} than the original" if size.difference.endswith(("smaller", "larger")) else size.difference
    ]
    known += [f"{number(bits)} bits per quantized weight"] if bits else []
    return Card(title, size.value, ", ".join(filter(None, known)), _done(report_input), _verdicts(table, column))


def _verdicts(table: VerdictTable, column: int) -> tuple[tuple[Tone, str, str], ...]:
    """The column's verdicts, gathered: tone, how many of which, and the first few metrics by name."""
    met: dict[tuple[Tone, str], list[str]] = {}
    for row in table.rows:
        cell = row.cells[column]
        if cell.verdict:
            met.setdefault((cell.tone, re.split("[:;(]| is stated", cell.verdict)[0].strip()), []).append(
                _row_name(row)
            )
    order = sorted(met.items(), key=lambda item: (item[0][1] == "not compared", TONES.index(item[0][0])))
    return tuple((tone, f"{len(names)} {word}", _few(names)) for (tone, word), names in order)


def _row_name(row: MetricRow) -> str:
    data = row.detail.split(", ")[0]
    return row.label if not data or data.endswith("is better") else f"{row.label} on {data}"


def _few(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _done(report_input: ReportInput) -> str:
    """What was done, in one sentence, as the ledger has it."""
    ledger = report_input.ledger
    if not len(ledger):
        return "The ledger is empty: what was done is not recorded."
    formats = Counter(row.format for row in ledger.quantized())
    steps = list(dict.fromkeys(" + ".join(row.steps) for row in ledger.quantized() if row.steps))
    stored = ", ".join(f"{count} as {name}" for name, count in formats.most_common()) or "none"
    parts = [
        f"{len(ledger.quantized())} of {len(ledger)} layers quantized ({stored})"
        + (f" by {', '.join(steps)}" if steps else "")
    ]
    parts += [f"{len(ledger.left())} left alone"] if ledger.left() else []
    parts += (
        [f"{len(ledger.fallbacks())} fell back to something the recipe did not ask for"] if ledger.fallbacks() else []
    )
    seconds = report_input.run.get("seconds")
    parts += [f"took {duration(seconds)}"] if isinstance(seconds, int | float) else []
    return "; ".join(parts) + "."


def _claim(claim: Claim, heading: str, original: str, known: Sequence[Facts]) -> ClaimView:
    comparison = claim.comparison
    found = {
        "exact value": None
        if claim.value is None
        else f"{claim.value!r} {'' if claim.unit in SILENT_UNITS else claim.unit}".strip(),
        "interval": claim.interval,
    }
    if comparison:
        found["comparison"] = f"{comparison.test or 'paired difference'}, against {comparison.reference}"
        found |= {} if comparison.p_value is None else {"p-value": _p(comparison.p_value)}
    found |= {f"setting {key}": value for key, value in claim.settings.items()}
    found |= {f"data {key}": value for key, value in claim.data.items()}
    found |= {f"seed {key}": value for key, value in claim.seeds.items()}
    found |= {"SHA-256 of what was measured": claim.subject_sha256}
    found |= {"note": claim.note} if claim.note else {}
    found |= {"environment": f"number {known.index(facts(claim.environment)) + 1} below" if claim.environment else None}
    cell = claim_cell(claim, original=original)
    n = f"{claim.n:,}" if claim.n else "none"
    return ClaimView(metric_name(claim.metric), data_name(claim), heading, cell, n, claim.command, facts(found))


def _artifact_facts(report_input: ReportInput) -> Facts:
    manifest = report_input.manifest
    model, size = manifest.get("model") or {}, manifest.get("bytes") or {}
    found: dict[str, Any] = {
        "artifact": report_input.name,
        "original": model.get("name"),
        "SHA-256 of the original": model.get("sha256"),
        "SHA-256 of the recipe": manifest.get("recipe_sha256"),
        "seed": manifest.get("seed"),
        "bytes before": quantity(size.get("before"), "bytes"),
        "bytes after": quantity(size.get("after"), "bytes"),
        "formats": _formats(manifest.get("formats") or {}),
        "calibration": manifest.get("calibration", "")
        if "calibration" not in manifest
        else manifest["calibration"] or "none used",
        "written with": manifest.get("versions"),
    }
    return facts(found) + tuple((f"run: {key.replace('_', ' ')}", text) for key, text in _run(report_input.run))


def _formats(formats: Mapping[str, Any]) -> dict[str, Any]:
    """Layers by format, whether the manifest counts layers per format or names the format of each layer."""
    values = list(formats.values())
    if values and all(isinstance(value, str) for value in values):
        return {name: f"{count} layers" for name, count in sorted(Counter(values).items())}
    if values and not all(isinstance(value, int) for value in values):
        return {"layers with a format": len(values)}
    return {name: f"{count} layers" for name, count in formats.items()}


def _run(run: Mapping[str, Any]) -> Facts:
    """Times and sizes of the compression run; text in it (names, paths, dates) is not shown."""
    numbers = {k: v for k, v in run.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    return tuple((key, _with_suffix(key, value)) for key, value in numbers.items())


def _with_suffix(key: str, value: float) -> str:
    if key.endswith(("bytes", "memory")):
        return quantity(value, "bytes")
    if key.endswith(("seconds", "_s")):
        return duration(value)
    return quantity(value, "J") if key.endswith("_j") else number(value)


def _parity(parity: Mapping[str, Any] | None) -> tuple[str, Tone]:
    if not parity:
        return "Not recorded: nothing shows that the files compute what the compression simulated.", "warn"
    parts = [f"{parity[key]} {key}" for key in ("layers", "blocks", "parts") if parity.get(key)]
    end = f"; at the model's output: {parity['end']}" if parity.get("end") else "; the model's output was not compared"
    return (
        f"Reloaded from disk and compared with the simulation: {' and '.join(parts) or 'no layers'}{end}.",
        "good" if parts else "warn",
    )


def _p(value: float) -> str:
    return "under 0.001" if value < 0.001 else f"{value:.3g}"


def _plain(value: Any) -> str:
    if value is None or value == "" or value == {} or value == []:
        return "not recorded"
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value))
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(inner)}" for key, inner in value.items())
    return repr(value) if isinstance(value, str) and value.isspace() else str(value)  # a blank would look like nothing

"""What a report is made of: one ``ReportInput`` per artifact, and the few numbers that follow from its manifest and ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from netweight.claim import Claim
from netweight.errors import EvidenceError
from netweight.evidence._words import BITS, SIZE
from netweight.ledger import Ledger, Row


@dataclass(frozen=True)
class ReportInput:
    """One artifact's evidence, as plain data.

    ``claims`` holds those about the artifact (``subject == name``) and those about the original. ``manifest`` is the
    artifact's own: ``model {name, sha256}``, ``recipe_sha256``, ``seed``, ``bytes {before, after}``, ``formats``,
    ``versions``, ``calibration {source, split, sha256, samples, length, tokens}`` or None, ``parity {layers, parts, end}``.
    ``run`` holds seconds and peak memory of the compression. Each row of ``overlap`` is one calibration text against one
    test text: ``calibration``, ``test``, ``n`` (words per n-gram), ``shared``, ``share`` (of the test's n-grams), ``examples``;
    ``shared`` is None where nobody could look, and ``why`` says why.
    """

    name: str
    title: str
    claims: list[Claim]
    ledger: Ledger
    manifest: dict[str, Any]
    recipe_toml: str
    run: dict[str, Any] = field(default_factory=dict)
    overlap: list[dict[str, Any]] = field(default_factory=list)


def check(inputs: Sequence[ReportInput]) -> None:
    """One page is about one original.

    Raises:
      EvidenceError: no artifact, two of one name, or artifacts of different originals.
    """
    if not inputs:
        raise EvidenceError("a report needs at least one artifact; none was given")
    if twice := [name for name, count in Counter(i.name for i in inputs).items() if count > 1]:
        raise EvidenceError(f"two artifacts are named {twice[0]!r}; give each its own name")
    hashes = {_model(i).get("sha256") for i in inputs} - {None}
    if len(hashes) > 1:
        names = ", ".join(f"{i.name!r} of {str(_model(i).get('sha256'))[:12]}" for i in inputs)
        raise EvidenceError(
            f"these artifacts come from different originals ({names}); write one report for each original"
        )


def original_name(inputs: Sequence[ReportInput]) -> str:
    """The subject the artifacts are measured against: as the comparisons name it, else as the manifest does."""
    artifacts = {i.name for i in inputs}
    claims = [claim for i in inputs for claim in i.claims]
    references = Counter(
        c.comparison.reference for c in claims if c.comparison and c.comparison.reference not in artifacts
    )
    if references:
        return min(references, key=lambda name: (-references[name], name))
    named = str(_model(inputs[0]).get("name") or "original")
    others = sorted({claim.subject for claim in claims} - artifacts)
    return others[0] if len(others) == 1 and named not in others else named


def headings(inputs: Sequence[ReportInput]) -> dict[str, str]:
    """Column heading of each artifact, by name: its title, with the name where titles are equal."""
    titles = Counter(i.title or i.name for i in inputs)
    return {i.name: (i.title or i.name) if titles[i.title or i.name] == 1 else f"{i.title} ({i.name})" for i in inputs}


def claims_by_subject(inputs: Sequence[ReportInput]) -> dict[str, list[Claim]]:
    """Every claim once, by column heading: the original, other subjects, then the artifacts.

    Size on disk and bits per weight come first; where no claim states them they are taken from manifest and ledger.
    """
    check(inputs)
    shown, original = headings(inputs), original_name(inputs)
    found: dict[str, dict[str, Claim]] = {original: {}}
    for claim in (claim for i in inputs for claim in i.claims):
        found.setdefault(claim.subject, {}).setdefault(claim.to_json(), claim)
    order = [*(s for s in found if s not in shown), *shown]
    claims = {subject: list(found.get(subject, {}).values()) for subject in order}
    for i in inputs:
        claims[i.name] = _with(claims[i.name], sizes(i, i.name, before=False))
    claims[original] = _with(claims[original], sizes(inputs[0], original, before=True))
    return {_heading(subject, original, shown): found for subject, found in claims.items()}


def sizes(report_input: ReportInput, subject: str, *, before: bool) -> list[Claim]:
    """Size on disk and bits per weight, of the original (``before``) or the artifact, as exact claims."""
    manifest_bytes = (report_input.manifest.get("bytes") or {}).get("before" if before else "after")
    bits = bits_per_weight(report_input.ledger, before=before)
    return [_exact(SIZE, manifest_bytes, "bytes", subject), _exact(BITS, bits, "bits/weight", subject)]


def bits_per_weight(rows: Iterable[Row], *, before: bool = False) -> float | None:
    """Bits per weight over these layers, scales and metadata included; a tied weight counts once. None where a size is missing."""
    own = [row for row in rows if not row.tied_to]
    stored = [row.bytes_before if before else row.bytes_after for row in own]
    weights = sum(elements(row) for row in own)
    return sum(stored) * 8 / weights if weights and all(stored) else None


def elements(row: Row) -> int:
    count = 1
    for extent in row.shape:
        count *= extent
    return count if row.shape else 0


def _heading(subject: str, original: str, shown: dict[str, str]) -> str:
    return "Original" if subject == original and "Original" not in shown.values() else shown.get(subject, subject)


def _with(claims: list[Claim], exact: list[Claim]) -> list[Claim]:
    """Sizes first: the measured claim where there is one."""
    head = [next((c for c in claims if c.metric == e.metric), e) for e in exact]
    return [*head, *(claim for claim in claims if claim not in head)]


def _exact(metric: str, value: float | None, unit: str, subject: str) -> Claim:
    return Claim(
        metric, value, unit, n=1, low=None, high=None, interval="exact", subject=subject, subject_sha256="", better="lower",
        provenance="unavailable" if value is None else "measured", note="" if value is not None else "not in the manifest",
    )  # fmt: skip


def _model(report_input: ReportInput) -> dict[str, Any]:
    return report_input.manifest.get("model") or {}

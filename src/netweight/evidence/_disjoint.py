"""Did calibration see the test? Every calibration text against every test text, checked or plainly not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from netweight.evidence._input import ReportInput
from netweight.evidence._numbers import percent, scale, short_hash
from netweight.evidence._words import Tone, data_name
from netweight.words import counted


@dataclass(frozen=True)
class Text:
    """A corpus by name, with the hash of its content where known."""

    role: str
    name: str
    sha256: str
    amount: str


@dataclass(frozen=True)
class Pair:
    """One calibration text against one test text; ``found`` is None where nobody looked."""

    calibration: str
    test: str
    words: int
    found: int | None
    share: str
    examples: tuple[str, ...]
    why: str = ""  # nobody looked


@dataclass(frozen=True)
class Disjoint:
    """``tone`` is "good" only when calibration was recorded and every pair was checked and shares nothing."""

    tone: Tone
    headline: str
    texts: tuple[Text, ...]
    pairs: tuple[Pair, ...]


def disjoint(inputs: Sequence[ReportInput]) -> Disjoint:
    """The statement for the first screen, with the pairs and hashes behind it."""
    used = list(dict.fromkeys(t for i in inputs for t in _calibration(i)))
    tests = list(dict.fromkeys(t for i in inputs for t in _tests(i)))
    pairs = tuple(dict.fromkeys(pair for i in inputs for pair in _pairs(i)))
    silent = [i.title or i.name for i in inputs if "calibration" not in i.manifest]
    tone, headline = _headline(pairs, silent, used)
    return Disjoint(tone, headline, (*used, *tests), pairs)


def _pairs(report_input: ReportInput) -> list[Pair]:
    """An artifact's own pairs: those that were looked at, and those of its calibration and test texts that were not."""
    rows = [_pair(row) for row in report_input.overlap]
    missing = [
        Pair(ours.name, theirs.name, 0, None, "", ())
        for ours in _calibration(report_input)
        for theirs in _tests(report_input)
        if not any(_names(row.calibration, ours.name) and _names(row.test, theirs.name) for row in rows)
    ]
    return [*rows, *dict.fromkeys(missing)]


def _headline(pairs: Sequence[Pair], silent: Sequence[str], used: Sequence[Text]) -> tuple[Tone, str]:
    overlapping = [pair for pair in pairs if pair.found]
    unchecked = [pair for pair in pairs if pair.found is None]
    if overlapping:
        what = "; ".join(
            f"{p.test} shares {p.found:,} {p.words}-grams ({p.share}) with {p.calibration}" for p in overlapping
        )
        return "bad", f"Test text was seen in calibration: {what}. Scores on it may be better than they should be."
    if silent:
        return (
            "warn",
            f"The calibration data of {', '.join(silent)} is not recorded, so an overlap with the test text cannot be ruled out.",
        )
    if unchecked:
        return (
            "warn",
            f"Not checked for shared text: {'; '.join(f'{p.calibration} against {p.test}' for p in unchecked)}.",
        )
    if pairs:
        words = "/".join(str(n) for n in sorted({pair.words for pair in pairs}))
        return (
            "good",
            f"Calibration and test text share no {words}-grams ({counted(len(pairs), 'pair')} of texts checked).",
        )
    if used:
        return "plain", "No test text is recorded, so there was nothing to check calibration against."
    return "plain", "No calibration data was used, so no test text can have been seen."


def _calibration(report_input: ReportInput) -> list[Text]:
    found = report_input.manifest.get("calibration")
    if not found:
        return []
    parts = [
        _count(found, "samples", "windows"),
        _count(found, "length", "tokens each"),
        _count(found, "tokens", "tokens in all"),
    ]
    return [Text("calibration", _name(found), short_hash(found.get("sha256")), ", ".join(filter(None, parts)))]


def _tests(report_input: ReportInput) -> list[Text]:
    """What the scores were measured on; text that only kept the machine busy for a timing is no test."""
    texts = []
    for claim in report_input.claims:
        if data_name(claim) and scale(claim.unit, 1.0).unit not in ("s", "J"):
            amount = _count(claim.data, "documents", "documents") or _count(claim.data, "items", "items")
            texts.append(Text("test", data_name(claim), short_hash(claim.data.get("sha256")), amount))
    return texts


def _pair(row: dict[str, Any]) -> Pair:
    shared = row.get("shared")
    share = row.get("share")
    examples = tuple(x if isinstance(x, str) else " ".join(map(str, x)) for x in row.get("examples") or ())
    words = "share not recorded" if share is None else percent(float(share))
    why = str(row.get("why") or "")
    return Pair(str(row.get("calibration")), str(row.get("test")), int(row.get("n", 13)), shared, words, examples, why)


def _name(found: dict[str, Any]) -> str:
    source, split = str(found.get("source") or "unnamed"), str(found.get("split") or "")
    return source if not split or source.endswith(f"/{split}") else f"{source}/{split}"


def _names(given: str, full: str) -> bool:
    """Does the name used in an overlap row mean this text? The split may be left off."""
    return given == full or full.startswith(f"{given}/")


def _count(found: dict[str, Any], key: str, noun: str) -> str:
    value = found.get(key)
    return f"{value:,} {noun}" if isinstance(value, int) else ""

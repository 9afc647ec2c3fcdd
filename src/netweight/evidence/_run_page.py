"""What a page about training runs says, section by section, as plain values ready for the template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from netweight.evidence._numbers import duration, number, percent, quantity, short_hash
from netweight.evidence._page import Facts, facts
from netweight.evidence._run_input import PARTS, ROLES, RunInput
from netweight.evidence._run_tested import Tested, own_auprc
from netweight.evidence._words import Cell, Tone, metric_name
from netweight.words import counted

TOLD_APART = 1e-3  # by which recomputed predictions may differ in AUPRC before the page says so


@dataclass(frozen=True)
class RunCard:
    """One run at a glance."""

    title: str
    failed: str  # what is wrong with the weights themselves; "" where training went as asked
    metric: str
    value: Cell
    net: str
    trained: str
    packed: str
    verdict: Cell | None  # of the same metric, against the reference


@dataclass(frozen=True)
class SplitView:
    """Who trained, validated and tested one or several runs, and whether these are apart."""

    tone: Tone
    headline: str
    runs: str
    rows: tuple[tuple[str, ...], ...]  # part, patients, slices, slices with a lesion
    patients: tuple[tuple[str, str], ...]  # part, names
    facts: Facts


@dataclass(frozen=True)
class RunView:
    """Recipe, arithmetic, packed form and hashes of one run."""

    title: str
    arithmetic: str
    operands: tuple[tuple[str, str], ...]
    parity: str
    parity_tone: Tone
    recipe: str
    command: str
    facts: Facts
    notes: tuple[str, ...]


def cards(runs: Sequence[RunInput], titles: Sequence[str], sets: Sequence[Tested]) -> tuple[RunCard, ...]:
    return tuple(_card(run, title, own_auprc(sets, title)) for run, title in zip(runs, titles, strict=True))


def splits(runs: Sequence[RunInput], titles: Sequence[str]) -> tuple[SplitView, ...]:
    """One entry per split; runs that share it stand together."""
    groups: dict[str, list[int]] = {}
    for number_, run in enumerate(runs):
        groups.setdefault(str(run.training["split"].get("sha256")), []).append(number_)
    return tuple(
        _split(runs[numbers[0]], [titles[n] for n in numbers] if len(groups) > 1 else []) for numbers in groups.values()
    )


def phantoms(runs: Sequence[RunInput], titles: Sequence[str]) -> str:
    """Which runs learned from phantoms, in one sentence; "" where none did."""
    made = [title for run, title in zip(runs, titles, strict=True) if run.training["data"].get("phantom")]
    if not made:
        return ""
    who = "" if len(made) == len(runs) else f" {', '.join(made)}:"
    return f"Phantom data:{who} the pictures are computed, not taken. Nothing on this page says how well a net finds lesions in patients."


def views(runs: Sequence[RunInput], titles: Sequence[str]) -> tuple[RunView, ...]:
    return tuple(_view(run, title) for run, title in zip(runs, titles, strict=True))


def _card(run: RunInput, title: str, cell: Cell) -> RunCard:
    net, history = run.recipe["net"], run.training["history"]
    seconds = run.training.get("seconds")
    kept = f", best after pass {history['best']}" if history.get("best") else ""
    trained = f"{counted(len(history.get('rows') or []), 'pass')}{kept}; {history.get('ended') or 'end not recorded'}"
    trained += f"; took {duration(seconds)}" if isinstance(seconds, int | float) else ""
    arithmetic = f"arithmetic {run.recipe['qat']['use']}, seed {run.recipe['seed']}"
    net_words = f"{net['use']} {net['size']}, {arithmetic}"
    verdict = cell if run.reference and cell.verdict else None
    return RunCard(title, _failed(history), metric_name("auprc"), cell, net_words, trained, _sizes(run), verdict)


def _failed(history: Mapping[str, Any]) -> str:
    if not history.get("best"):
        return "not trained: these are the weights it began with"
    return f"training diverged: these are the weights of pass {history['best']}" if history.get("diverged") else ""


def _sizes(run: RunInput) -> str:
    packed = run.training["packed"]
    before = f"{quantity(run.weights_bytes, 'bytes')} in float32" if run.weights_bytes else ""
    after = f"{quantity(packed['bytes'], 'bytes')} packed" if packed.get("bytes") else "no packed form"
    return ", ".join(filter(None, [before, after]))


def _split(run: RunInput, titles: Sequence[str]) -> SplitView:
    split, data = run.training["split"], run.training["data"]
    counts = {part: {key: split.get(key, {}).get(part) for key in ("patients", "slices", "positive")} for part in PARTS}
    tone, headline = _disjoint(run, counts)
    rows = tuple((part, *(_known(counts[part][key]) for key in ("patients", "slices", "positive"))) for part in PARTS)
    names = () if run.patients is None else tuple((part, ", ".join(run.patients[part])) for part in PARTS)
    about = {
        "data": data.get("source"),
        "slices": data.get("slices"),
        "pixels": " × ".join(map(str, data.get("size") or [])),
        "SHA-256 of pixels, masks and names": data.get("sha256"),
        "split": split.get("split"),
        "seed of the split": split.get("seed"),
        "SHA-256 of the split": split.get("sha256"),
        "pairs of equal images in different parts": split.get("duplicates"),
    }
    return SplitView(tone, headline, ", ".join(titles), rows, names, facts(about))


def _disjoint(run: RunInput, counts: Mapping[str, Mapping[str, Any]]) -> tuple[Tone, str]:
    """Are the parts apart? "good" only where the patients themselves were looked at."""
    told = ", ".join(f"{part} {_known(counts[part]['patients'])}" for part in PARTS)
    if run.patients is None:
        return "warn", f"By the record no patient is in two parts (patients: {told}); not checked again, because {run.missing or 'the data was not found'}."  # fmt: skip
    for one, other in combinations(PARTS, 2):
        if both := sorted(set(run.patients[one]) & set(run.patients[other])):
            return "bad", f"Patients {', '.join(both[:3])} are in {one} and in {other}: scores may be better than they should be."  # fmt: skip
    found = {part: len(set(run.patients[part])) for part in PARTS}
    if any(counts[part]["patients"] not in (None, found[part]) for part in PARTS):
        return "bad", f"The data has other numbers of patients than the record ({told}): it is not what was trained on."
    twins = run.training["split"].get("duplicates")
    if twins:
        return "warn", f"No patient is in two parts (patients: {told}), but {twins} pairs of equal images are in different parts."  # fmt: skip
    return "good", f"No patient is in two parts, and no image (patients: {told}); checked name by name in the data."


def _view(run: RunInput, title: str) -> RunView:
    found = run.training
    operands = run.arithmetic.get("operands") or {}
    about = {
        "run": run.name,
        "net": f"{run.recipe['net']['use']} {run.recipe['net']['size']}",
        "seed": run.recipe["seed"],
        "SHA-256 of the weights": found.get("weights_sha256"),
        "SHA-256 of the packed net": found["packed"].get("sha256"),
        "SHA-256 of the teacher's weights": found.get("teacher") or "no teacher",
        "steps": found["history"].get("steps"),
        "time": duration(found["seconds"]) if isinstance(found.get("seconds"), int | float) else None,
        "sizes": _sizes(run),
        "trained on": found.get("environment"),
    }
    command = next((claim.command for claim in (*run.on_own_test(), *run.claims) if claim.command), "")
    return RunView(
        title,
        str(run.arithmetic.get("summary") or "not recorded"),
        tuple((ROLES[role], _operand(operands[role])) for role in ROLES if role in operands),
        *_parity(found["packed"]),
        run.recipe_toml.strip(),
        command,
        facts(about),
        _notes(run),
    )


def _operand(operand: Any) -> str:
    """How an operand is rounded, in words."""
    if operand == "forward":
        return "as the forward product rounded it"
    if not operand.get("format"):
        return "not rounded"
    words = [str(operand["format"]), "to the nearest" if operand["rounding"] == "nearest" else "stochastically"]
    words += ["between a random Hadamard transform and its inverse"] if operand["hadamard"] else []
    words += [f"scales by {operand['rule']}"] if operand["rule"] != "amax" else []
    return ", ".join(words)


def _parity(packed: Mapping[str, Any]) -> tuple[str, Tone]:
    if reason := packed.get("reason"):
        return f"There is no packed net: {reason}.", "plain"
    slices = packed.get("slices_compared")
    if not slices:
        return "A packed net was written, but it is not recorded that it was compared with the simulation.", "warn"
    return (
        f"The packed net gave the same logits as the net that was trained, to the bit, on {counted(slices, 'training slice')}; "
        f"hash {short_hash(packed.get('sha256'))}.",
        "good",
    )


def notes(views: Sequence[RunView]) -> tuple[tuple[str, str], ...]:
    """What cannot be left unsaid, each note once, with the runs it is about."""
    about: dict[str, list[str]] = {}
    for view in views:
        for note in view.notes:
            about.setdefault(note, []).append(view.title)
    return tuple((", ".join(titles), note) for note, titles in about.items())


def _notes(run: RunInput) -> tuple[str, ...]:
    notes = [f"No pictures, diagnostics and paired differences: {run.missing}."] if run.missing else []
    claim = next((claim for claim in run.on_own_test() if claim.metric == "auprc" and claim.value is not None), None)
    if claim is not None and claim.value is not None and run.recomputed is not None:
        gap = abs(run.recomputed - claim.value)
        if gap > TOLD_APART:
            notes.append(f"Predictions were computed again for this page; their AUPRC is {number(run.recomputed, 4)}, not {number(claim.value, 4)} as claimed.")  # fmt: skip
    return tuple(notes)


def oscillating(run: RunInput) -> str:
    """How many weights jump, in one sentence; "" where nobody looked."""
    if run.looked is None or not run.looked.oscillating:
        return ""
    found = run.looked.oscillating
    return (
        f"{percent(found['share'])} of the weights that are rounded oscillate: over {found['window']:g} further steps their rounded "
        f"value went at least {found['threshold']:g} times as far as they did."
    )


def _known(value: Any) -> str:
    return "not recorded" if value is None else f"{value:,}"

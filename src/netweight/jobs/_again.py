"""Measure the claims beside an artifact again, and say of each whether it holds."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from netweight.artifact import Artifact
from netweight.claim import Claim
from netweight.errors import DataError, EvidenceError, UnknownName, nearest
from netweight.evaluate import Items, Subject, Task, Text
from netweight.evaluate import run as judge
from netweight.jobs import _subjects, _tasks
from netweight.jobs._subjects import Opened
from netweight.progress import Progress

TOLERANCE = 1e-3  # relative: other processors and thread counts sum in another order; differences measured: below 1e-5
NOISE = 1e-4  # of the value: how far the difference of two nearly equal numbers may move when each of them is summed otherwise
BOUNDS = 0.02  # of an interval's width: the same resamples, but values that move so little can move a rank by one
RATIO = "_ratio"  # ends the name of a claim that divides by the reference's
TIMED = ("latency", "energy", "bytes_in_memory")  # depend on the machine: shown, not judged

Status = Literal["holds", "fails", "not checked"]
Key = tuple[str, str]  # a task's settings and the hash of its data


@dataclass(frozen=True)
class Check:
    """One thing that was looked at again."""

    what: str
    status: Status
    detail: str = ""


def checked(opened: Artifact, only: str | None, against: Any, progress: Progress | None) -> list[Check]:
    """The artifact's claims, and the original's where ``against`` names it, each measured again.

    Args:
      only: the one metric that is asked for; None for all.
    Raises:
      UnknownName: no claim of that metric (nearest name offered).
      EvidenceError: ``against`` is not what the claims compare with.
    """
    claims = opened.claims
    known = {claim.metric for claim in claims}
    if only is not None and only not in known:
        raise UnknownName(f"no claim of {only!r}{nearest(only, known)}")
    original = None if against is None else _original(claims, opened, against)
    artifact = _subjects.opened(opened, into=original.model.module if original else None)
    subjects = {one.subject.sha256: _as_claimed(one.subject, claims) for one in (original, artifact) if one}
    model = artifact.model if artifact.model.open_tokenizer or not original else original.model
    tokenizer = model.tokenizer() if model.open_tokenizer is not None else None
    reference = subjects[original.subject.sha256].name if original else None
    wanted = [claim for claim in claims if only in (None, claim.metric)]
    found = _found(wanted, subjects, reference, tokenizer)
    again = measured(wanted, found, subjects, reference, progress)
    return [judged(claim, found[key(claim)], again, subjects, reference) for claim in wanted]


def _original(claims: Sequence[Claim], opened: Artifact, against: Any) -> Opened:
    """What the claims compare with, opened. Raises: EvidenceError: another model was given."""
    original = _subjects.opened(against)
    others = {claim.subject_sha256: claim.subject for claim in claims if claim.subject_sha256 != opened.sha256}
    if original.subject.sha256 not in others:
        named = ", ".join(f"{name} (hash {sha256[:12]})" for sha256, name in others.items()) or "nothing"
        raise EvidenceError(
            f"{original.subject.name} has hash {original.subject.sha256[:12]}, the claims compare with {named}; "
            "name that model, or evaluate the artifact again"
        )
    return original


def _as_claimed(subject: Subject, claims: Sequence[Claim]) -> Subject:
    """The subject under the name its claims give it: a folder may have been moved since."""
    name = next((claim.subject for claim in claims if claim.subject_sha256 == subject.sha256), subject.name)
    return replace(subject, name=name)


def _found(
    wanted: Sequence[Claim], subjects: Mapping[str, Subject], reference: str | None, tokenizer: Any
) -> dict[Key, Task | str]:
    """For every claim the task that measures it again, or in words why there is none. Data is opened once."""
    opened: dict[str, Text | Items | str | None] = {}
    tasks: dict[Key, Task | str] = {}
    for claim in wanted:
        name = json.dumps([claim.data.get("source"), claim.data.get("split"), claim.data.get("sha256")])
        if name not in opened:
            try:
                opened[name] = _tasks.find(claim.data, tokenizer)
            except DataError as error:
                opened[name] = str(error)
        data = opened[name]
        if key(claim) not in tasks:
            tasks[key(claim)] = data if isinstance(data, str) else Task.from_settings(claim.settings, data)
    return tasks


def measured(
    wanted: Sequence[Claim],
    found: Mapping[Key, Task | str],
    subjects: Mapping[str, Subject],
    reference: str | None,
    progress: Progress | None,
) -> list[Claim]:
    """All that can be measured, in one go for claims that were resampled alike.

    Args:
      found: the task of each claim, by ``key``, or in words why there is none.
      subjects: by their hashes, under the names that the claims give them.
    """
    runs: dict[tuple[int, int], dict[Key, Task]] = {}
    margins: dict[str, float] = {}
    for claim in wanted:
        task = found[key(claim)]
        if isinstance(task, Task) and not _not_checked(claim, task, subjects, reference):
            run = claim.settings.get("run", {})
            seed, resamples = claim.seeds.get("resampling", 0), run.get("resamples", 2000)
            runs.setdefault((seed, resamples), {})[key(claim)] = task
            margins |= {claim.metric: run["margin"]} if "margin" in run and reference else {}
    claims: list[Claim] = []
    metrics = {claim.metric for claim in wanted}
    for (seed, resamples), tasks in runs.items():
        quantities = {quantity.name for task in tasks.values() for quantity in task.quantities}
        claims += judge(
            list(subjects.values()),
            reference=reference,
            tasks=list(tasks.values()),
            seed=seed,
            resamples=resamples,
            margins={name: margin for name, margin in margins.items() if name in quantities},
            ratios=sorted(name for name in quantities if f"{name}{RATIO}" in metrics) if reference else (),
            progress=progress,
        )
    return claims


def _not_checked(claim: Claim, task: Task, subjects: Mapping[str, Subject], reference: str | None) -> str:
    """Why a claim cannot or need not be measured again; "" where it can."""
    if claim.value is None:
        return f"the claim says it is unavailable: {claim.note}"
    if claim.metric in TIMED:
        return "it depends on the machine and the moment"
    if claim.subject_sha256 not in subjects:
        return f"it is about {claim.subject}; name it with --against"
    if reference is None and (getattr(task.plugin, "NEEDS_REFERENCE", False) or claim.metric.endswith(RATIO)):
        return "it compares with the original; name it with --against"
    return ""


def judged(
    claim: Claim, task: Task | str, again: Sequence[Claim], subjects: Mapping[str, Subject], reference: str | None
) -> Check:
    """A claim beside what was measured now."""
    source = "/".join(str(claim.data[key]) for key in ("source", "split") if claim.data.get(key))
    what = f"{claim.metric} of {claim.subject}{f' on {source}' if source else ''}"
    if reason := task if isinstance(task, str) else _not_checked(claim, task, subjects, reference):
        return Check(what, "not checked", reason)
    now = next((c for c in again if _same(c, claim)), None)
    if now is None:
        return Check(what, "fails", f"{claim.value:.6g} claimed; its task gives no {claim.metric}")
    wrong = [*_differences(claim, now), *(_compared(claim, now) if reference else [])]
    if wrong:
        return Check(what, "fails", "; ".join(f"{name}: {old} claimed, {new} now" for name, old, new in wrong))
    rest = (
        ""
        if reference or not claim.comparison
        else "; the difference was not checked: name the original with --against"
    )
    return Check(what, "holds", f"{claim.value:.6g} claimed, {now.value:.6g} now{rest}")


def _same(now: Claim, claim: Claim) -> bool:
    return (now.subject_sha256, now.metric, key(now)) == (claim.subject_sha256, claim.metric, key(claim))


def key(claim: Claim) -> Key:
    """What was measured on what, but for the terms of the resampling."""
    settings = {name: value for name, value in claim.settings.items() if name != "run"}
    return json.dumps(settings, sort_keys=True), str(claim.data.get("sha256", ""))


Wrong = tuple[str, Any, Any]  # what, as claimed, as it is now


def _differences(claim: Claim, now: Claim) -> list[Wrong]:
    """What of value, interval and n is not as claimed."""
    wrong: list[Wrong] = []
    if not _close(claim.value, now.value, 0.0):
        wrong.append(("value", _short(claim.value), _short(now.value)))
    width = 0.0 if now.low is None or now.high is None else now.high - now.low
    for name, old, new in (("low", claim.low, now.low), ("high", claim.high, now.high)):
        if not _close(old, new, BOUNDS * width):
            wrong.append((name, _short(old), _short(new)))
    if claim.n != now.n:
        wrong.append(("n", claim.n, now.n))
    return wrong


def _compared(claim: Claim, now: Claim) -> list[Wrong]:
    """What of the comparison with the original is not as claimed."""
    old, new = claim.comparison, now.comparison
    if old is None or new is None:
        return (
            [] if old is new else [("comparison", "none" if old is None else "one", "none" if new is None else "one")]
        )
    wrong: list[Wrong] = []
    noise = BOUNDS * (new.high - new.low) + NOISE * abs(now.value or 0.0)
    for name in ("difference", "low", "high"):
        if not _close(getattr(old, name), getattr(new, name), noise):
            wrong.append((f"comparison {name}", _short(getattr(old, name)), _short(getattr(new, name))))
    for name in ("reference", "margin", "verdict"):
        if getattr(old, name) != getattr(new, name):
            wrong.append((f"comparison {name}", getattr(old, name), getattr(new, name)))
    return wrong


def _close(old: float | None, new: float | None, slack: float) -> bool:
    if old is None or new is None:
        return old is new
    return math.isclose(old, new, rel_tol=TOLERANCE, abs_tol=1e-9 + slack)


def _short(value: float | None) -> str:
    return "none" if value is None else f"{value:.6g}"

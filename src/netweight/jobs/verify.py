"""verify: hash an artifact again, decode every layer again, and measure its claims again; say which hold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from netweight.artifact import Artifact, open_artifact
from netweight.claim import Claim
from netweight.errors import CorruptError, DataError, EvidenceError, ParityError, UnknownName, nearest
from netweight.evaluate import Task
from netweight.evaluate import run as judge
from netweight.jobs import _parity, _subjects, _tasks
from netweight.jobs.evaluate import threads_of
from netweight.progress import Progress, silent

TOLERANCE = (
    1e-3  # relative: other processors and thread counts sum in another order; measured differences are below 1e-5
)
TIMED = ("latency", "energy", "bytes_in_memory")  # depend on the machine: shown, not judged


@dataclass(frozen=True)
class Check:
    """One thing that was looked at again."""

    what: str
    status: str  # "holds", "fails", "not checked"
    detail: str = ""


@dataclass(frozen=True)
class Verification:
    """Everything that was looked at again."""

    artifact: str
    checks: tuple[Check, ...] = field(default_factory=tuple)

    def failures(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if check.status == "fails")


def verify(
    artifact: Any,
    *,
    recompute: bool = False,
    claim: str | None = None,
    against: Any = None,
    threads: int = 0,
    progress: Progress | None = None,
) -> Verification:
    """See ``netweight.verify``."""
    opened = artifact if isinstance(artifact, Artifact) else open_artifact(artifact)
    if wrong := opened.check_files():
        raise CorruptError(f"{opened.path}: {'; '.join(wrong)}")
    checks = [Check(f"{len(opened.manifest.files)} files", "holds", "hashes equal the manifest's")]
    try:
        with threads_of(threads):
            _parity.check_layers(opened, threads=threads or 2, progress=progress or silent)
    except ParityError as error:
        raise CorruptError(str(error)) from error
    checks.append(Check(f"{len(opened.manifest.layers)} layers", "holds", "decoded weights equal what was simulated"))
    if not opened.claims:
        checks.append(Check("claims", "not checked", "there are none; run netweight evaluate"))
    elif recompute or claim:
        checks += _again(opened, claim, against, threads, progress)
    else:
        checks.append(Check(f"{len(opened.claims)} claims", "not checked", "recompute them with --recompute"))
    result = Verification(str(opened.path), tuple(checks))
    if failed := result.failures():
        raise EvidenceError("; ".join(f"{check.what}: {check.detail}" for check in failed))
    return result


def _again(opened: Artifact, only: str | None, against: Any, threads: int, progress: Progress | None) -> list[Check]:
    """Measure the artifact's own claims again, one metric at a time."""
    with threads_of(threads):
        subject, model, _ = _subjects.opened(opened)
        original = _subjects.opened(against)[0] if against is not None else None
        mine = [c for c in opened.claims if c.subject_sha256 == subject.sha256]
        if not mine:
            raise EvidenceError(f"{opened.path}: its claims are about another artifact; evaluate it again")
        if only is not None and only not in {c.metric for c in mine}:
            raise UnknownName(f"no claim of {only!r}{nearest(only, {c.metric for c in mine})}")
        tokenizer = model.tokenizer() if model.open_tokenizer is not None else None
        checks = []
        for wanted in (c for c in mine if only in (None, c.metric)):
            checks.append(_one(wanted, subject, original, tokenizer, progress))
        return checks


def _one(wanted: Claim, subject: Any, original: Any, tokenizer: Any, progress: Progress | None) -> Check:
    what = f"{wanted.metric} on {wanted.data.get('source', 'the artifact')}"
    if wanted.value is None:
        return Check(what, "not checked", f"the claim says it is unavailable: {wanted.note}")
    if wanted.metric in TIMED:
        return Check(what, "not checked", "it depends on the machine and the moment")
    try:
        task = Task.from_settings(wanted.settings, _tasks.find(wanted.data, tokenizer))
    except DataError as error:
        return Check(what, "not checked", str(error))
    if getattr(task.plugin, "NEEDS_REFERENCE", False) and original is None:
        return Check(what, "not checked", "it compares with the original; name it with --against")
    subjects = [subject] if original is None else [original, subject]
    found = judge(
        subjects, reference=original.name if original else None, tasks=[task], resamples=100, progress=progress
    )
    value = _value(found, wanted, subject.sha256)
    if value is not None and math.isclose(value, wanted.value, rel_tol=TOLERANCE, abs_tol=1e-9):
        return Check(what, "holds", f"{wanted.value:.6g} claimed, {value:.6g} now")
    return Check(what, "fails", f"{wanted.value:.6g} claimed, {value if value is None else f'{value:.6g}'} now")


def _value(found: Sequence[Claim], wanted: Claim, sha256: str) -> float | None:
    return next((c.value for c in found if c.metric == wanted.metric and c.subject_sha256 == sha256), None)

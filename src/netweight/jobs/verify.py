"""verify: hash an artifact or a run again, decode every layer again, and measure its claims again; say which hold."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from netweight.artifact import Artifact, open_artifact
from netweight.claim import read_claims
from netweight.errors import CorruptError, EvidenceError, ParityError
from netweight.jobs import _again, _again_runs, _parity, _seen
from netweight.jobs._again import Check
from netweight.jobs._deployed import packed_of
from netweight.jobs._entrants import Entrant, entrant
from netweight.jobs._runs import CLAIMS, Run
from netweight.jobs.evaluate import threads_of
from netweight.progress import Progress, silent
from netweight.words import counted


@dataclass(frozen=True)
class Verification:
    """Everything that was looked at again."""

    artifact: str
    checks: tuple[Check, ...] = ()

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
    progress = progress or silent
    trained = entrant(artifact)
    opened = _opened(artifact) if trained is None else trained.artifact or packed_of(trained.run)
    path = trained.path if trained is not None else getattr(opened, "path", artifact)
    with threads_of(threads):
        checks = _kept(trained.run) if trained is not None else []
        if opened is not None:
            checks += _files(opened, threads or os.cpu_count() or 1, progress)
        checks += _claims(trained or opened, recompute, claim, against, progress)
    result = Verification(str(path), tuple(checks))
    if failed := result.failures():
        listed = "; ".join(f"{check.what}: {check.detail}" for check in failed)
        count = "1 claim does" if len(failed) == 1 else f"{len(failed)} claims do"
        raise EvidenceError(f"{path}: {count} not hold: {listed}", found=result)
    return result


def _files(opened: Artifact, threads: int, progress: Progress) -> list[Check]:
    """Hashes of files and of decoded layers. Raises: CorruptError: one differs from the manifest."""
    if wrong := opened.check_files():
        raise CorruptError(f"{opened.path}: {'; '.join(wrong)}")
    try:
        _parity.check_layers(opened, threads=threads, progress=progress)
    except ParityError as error:
        raise CorruptError(str(error)) from error
    return [
        Check(counted(len(opened.manifest.files), "file"), "holds", "hashes equal the manifest's"),
        Check(counted(len(opened.manifest.layers), "layer"), "holds", "decoded weights equal what was simulated"),
    ]


def _claims(
    subject: Artifact | Entrant | None, recompute: bool, only: str | None, against: Any, progress: Progress
) -> list[Check]:
    """Raises: EvidenceError: the claims are about another artifact, or one is asked for and there are none."""
    if subject is None:
        return []
    claims = subject.claims if isinstance(subject, Artifact) else read_claims(subject.path / CLAIMS)
    if not claims:
        if only is not None:
            raise EvidenceError(f"{subject.path} has no claims, of {only!r} or anything else; run netweight evaluate")
        return [Check("claims", "not checked", "there are none; run netweight evaluate")]
    if all(claim.subject_sha256 != subject.sha256 for claim in claims):
        raise EvidenceError(
            f"{subject.path}: its claims are about another artifact "
            f"({claims[-1].subject}, hash {claims[-1].subject_sha256[:12]}), this one has hash {subject.sha256[:12]}; "
            "evaluate it again"
        )
    if not recompute and only is None:
        return [Check(counted(len(claims), "claim"), "not checked", "measure them again with --recompute")]
    if isinstance(subject, Entrant):
        return _again_runs.checked(subject, claims, only, against, progress)
    return _again.checked(subject, only, against, progress)


def _kept(run: Run) -> list[Check]:
    """``read`` has compared recipe and weights already. Raises: CorruptError: whom it was trained on is not what was kept, or is gone."""
    checks = [Check("weights", "holds", f"hash {run.weights_sha256[:12]} is what was trained")]
    if "seen" not in run.training:
        return checks
    seen = _seen.read(run)
    if seen is None:
        raise CorruptError(f"{run.path} has no {_seen.FILE}, which says whom the net has learnt from")
    learnt = f"{counted(len(seen.patients), 'patient')} and {counted(len(seen.pictures), 'picture')} it has learnt from"
    return [*checks, Check(_seen.FILE, "holds", learnt)]


def _opened(artifact: Any) -> Artifact:
    return artifact if isinstance(artifact, Artifact) else open_artifact(artifact)

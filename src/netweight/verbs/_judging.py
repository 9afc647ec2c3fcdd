"""Verbs that say what there is and what it is worth."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from netweight.claim import Claim
    from netweight.evaluate import Task
    from netweight.jobs._runs import Run
    from netweight.jobs.verify import Verification
    from netweight.jobs.weigh import Weighing
    from netweight.progress import Progress
    from netweight.verbs._types import Folder, Source


def weigh(
    model: Source, *, formats: Sequence[str] = ("int4-g64", "int3-g64", "nvfp4"), json: bool = False
) -> Weighing | str:
    """Say where a model's bytes are, and what formats would save.

    Args:
      model: Hugging Face folder or hub name, or GGUF file; in Python also a live module.
      formats: number formats to project the size to, separated by commas.
      json: plain data as JSON instead of a table.
    Returns:
      The weighing; its JSON text with ``json``.
    Raises:
      ModelError: the model cannot be read.
      UnknownName: no such format (nearest name offered).
    """
    from netweight.jobs.weigh import weigh as job

    return job(model, formats=formats, json=json)


def evaluate(
    artifacts: Folder | Source | Sequence[Folder | Source],
    *,
    against: Source | None = None,
    data: str | Path | None = None,
    preset: Literal["quick", "default", "full"] = "default",
    batch_size: int = 8,
    threads: int = 0,
    out: str | Path | None = None,
    tasks: Iterable[Task] | None = None,
    progress: Progress | None = None,
) -> list[Claim]:
    """Measure quality, size and speed, paired with the original.

    Text is text that calibration never saw; patients neither trained a run nor chose its weights. Every number has its interval.

    Args:
      artifacts: one or more artifact folders, models or trained runs; in Python also live modules.
      against: the original model, or another run, on the same items; by default each is measured alone, what a run was packed to beside it.
      data: slices for trained runs, by name or folder: all of another set, or the test patients of the training set; by default these.
      preset: how much to measure of a text model.
      batch_size: items computed at once; scores do not depend on it.
      threads: threads to use, 0 for one per core.
      out: file for the claims; by default claims.jsonl in each artifact or run folder, where claims on other slices stay.
      tasks: what to measure in place of the preset; only in Python.
      progress: called as pieces of the work are done; only in Python.
    Returns:
      The claims, each with its interval.
    Raises:
      DataError: evaluation data is missing, empty or too short, or shows a patient who trained a run.
      CorruptError: an artifact's bytes differ from its manifest.
    """
    from netweight.jobs.evaluate import evaluate as job

    return job(
        artifacts,
        against=against,
        data=data,
        preset=preset,
        batch_size=batch_size,
        threads=threads,
        out=out,
        tasks=list(tasks) if tasks is not None else None,
        progress=progress,
    )


def report(
    artifacts: Folder | Run | Sequence[Folder | Run],
    *,
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write one HTML page about artifacts, or training runs.

    It needs no network. Runs tested on the same slices are paired with the first, with pictures of what was found and missed.

    Args:
      artifacts: one or more artifact folders that have been evaluated, or one or more folders of training runs; not both.
      out: the file to write; by default report.html in the first folder.
      progress: called as pieces of the work are done; only in Python.
    Returns:
      The file written.
    Raises:
      SettingsError: runs and artifacts in one call.
      EvidenceError: a folder holds no claims.
      ArtifactError: a run is not finished, or damaged.
    """
    from netweight.jobs.report import report as job

    return job(artifacts, out=out, progress=progress)


def verify(
    artifact: Folder,
    *,
    recompute: bool = False,
    claim: str | None = None,
    against: Source | None = None,
    threads: int = 0,
    progress: Progress | None = None,
) -> Verification:
    """Check an artifact: hash its files and measure its claims again.

    Args:
      artifact: artifact folder, or a trained run.
      recompute: measure the claims again.
      claim: measure only the claims of this metric again.
      against: the original model, or the other run, for claims that compare with it.
      threads: threads to use, 0 for one per core.
      progress: called as pieces of the work are done; only in Python.
    Returns:
      What was checked, and whether it holds.
    Raises:
      CorruptError: bytes differ from the manifest.
      EvidenceError: a claim does not hold.
    """
    from netweight.jobs.verify import verify as job

    return job(artifact, recompute=recompute, claim=claim, against=against, threads=threads, progress=progress)

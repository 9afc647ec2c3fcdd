"""Verbs that make something: an artifact, a run, the cells of a study."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from netweight.artifact import Artifact
    from netweight.jobs._estimate import DryRun
    from netweight.jobs._runs import Run
    from netweight.jobs._training_findings import TrainingFindings
    from netweight.jobs.study import Findings
    from netweight.progress import Progress
    from netweight.recipe import Recipe
    from netweight.verbs._types import Source


def compress(
    model: Source,
    recipe: str | Path | Recipe,
    *,
    out: str | Path,
    dry_run: bool = False,
    allow_partial: bool = False,
    threads: int = 0,
    memory: Literal["lean", "ample"] = "lean",
    calibration: Iterable[Any] | None = None,
    progress: Progress | None = None,
) -> Artifact | DryRun:
    """Follow a recipe and write an artifact.

    An interrupted run is resumed by the same command, and ends in the same bytes.

    Args:
      model: Hugging Face folder or hub name, or GGUF file; in Python also a live module.
      recipe: recipe file (TOML).
      out: folder to write; it must not hold an artifact yet.
      dry_run: print the plan (what happens to each layer, sizes, time, memory) and write nothing.
      allow_partial: finish even where something the recipe names was left undone.
      threads: threads to use, 0 for one per core; the bytes do not depend on it.
      memory: ample is up to twice as fast and holds every calibration batch inside a block; the bytes do not depend on it.
      calibration: batches to use in place of the recipe's; only in Python.
      progress: called as pieces of the work are done; only in Python.
    Returns:
      The artifact; with ``dry_run`` the planned ledger with sizes, time and memory.
    Raises:
      SettingsError: the recipe is wrong.
      PartialError: a pattern matches no layer, or something the recipe names was left undone, and ``allow_partial`` is absent.
      ExistsError: ``out`` already holds something.
      ParityError: what was written does not compute what was simulated.
      ResourceError: too little memory or disk.
    """
    from netweight.jobs.compress import compress as job

    return job(
        model,
        recipe,
        out=out,
        dry_run=dry_run,
        allow_partial=allow_partial,
        threads=threads,
        memory=memory,
        calibration=calibration,
        progress=progress,
    )


def train(
    recipe: str | Path | dict[str, Any],
    *,
    data: str | Path,
    out: str | Path,
    teacher: str | Path | None = None,
    device: str = "cpu",
    threads: int = 0,
    progress: Progress | None = None,
) -> Run:
    """Train a segmentation net, in full precision or four bits.

    Patients are divided first: to learn from, to choose weights by, to be judged on. The same command resumes a run, on the processor to the same bytes.

    Args:
      recipe: training recipe (TOML): the net, its arithmetic, the split, the schedule.
      data: slices with masks: a folder of patients, a data set by name, or "phantom".
      out: folder for the trained net and what was measured of it.
      teacher: finished run on the same split, to learn from as well.
      device: "cpu", or "cuda" to train on a GPU; packing and judging stay on the processor.
      threads: threads to use, 0 for one per core; other numbers sum in another order and end in other bytes.
      progress: called as pieces of the work are done; only in Python.
    Returns:
      The run: its weights, history and claims lie in ``out``.
    Raises:
      SettingsError: the recipe is wrong, or there is no such device.
      ExistsError: ``out`` holds something else.
      DataError: images and masks that do not belong together, or patients that cannot be divided as asked.
    """
    from netweight.jobs.train import train as job

    return job(recipe, data=data, out=out, teacher=teacher, device=device, threads=threads, progress=progress)


def study(
    grid: str | Path | dict[str, Any],
    *,
    out: str | Path,
    model: str | None = None,
    data: str | None = None,
    device: str = "cpu",
    workers: int = 1,
    threads: int = 1,
    ray: str | None = None,
    retry_failed: bool = False,
    progress: Progress | None = None,
) -> Findings | TrainingFindings:
    """Run a grid of recipes and say what the differences show.

    Each recipe compresses the model, or trains a net. The same command goes on where it was interrupted, and does again what changed.

    Args:
      grid: the study (TOML): a common recipe, axes that are laid over it, seeds, what to measure, what to compare.
      out: folder for cells and findings.
      model: what is compressed; by default what the study names.
      data: slices that nets are trained on; by default what the study names.
      device: where nets are trained, "cpu" or "cuda"; models are compressed on the processor.
      workers: cells done at once, each in a process of its own.
      threads: threads of each.
      ray: Ray cluster to do cells on: HOST:PORT, "auto" for the one running here, "local" to start one for this study.
      retry_failed: do cells again that failed before.
      progress: called as pieces of the work are done; only in Python.
    Returns:
      A row per cell, and comparisons paired by seed, with intervals and Holm's correction.
    Raises:
      SettingsError: the grid or one of its recipes is wrong, or no cluster answers.
      ResourceError: a cluster went away.
    """
    from netweight.jobs.study import study as job

    return job(
        grid,
        out=out,
        model=model,
        data=data,
        device=device,
        workers=workers,
        threads=threads,
        ray=ray,
        retry_failed=retry_failed,
        progress=progress,
    )

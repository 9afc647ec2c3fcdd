"""The verbs: weigh, compress, train, evaluate, study, report, verify, run, bench, doctor. Each delegates once to the job of its name.

These signatures are also the command line: a positional parameter is an argument, a keyword-only one an option, and the
text under ``Args:`` its help. What cannot be typed (batches, a progress callback) is for Python only. Nothing heavy is
imported before a verb is called.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from netweight.artifact import Artifact
    from netweight.claim import Claim
    from netweight.evaluate import Task
    from netweight.jobs._estimate import DryRun
    from netweight.jobs._masks import Segmented
    from netweight.jobs._runs import Run
    from netweight.jobs._training_study import TrainingFindings
    from netweight.jobs.bench import Benchmark
    from netweight.jobs.doctor import Checkup
    from netweight.jobs.run import Generation
    from netweight.jobs.study import Findings
    from netweight.jobs.verify import Verification
    from netweight.jobs.weigh import Weighing
    from netweight.models import Model
    from netweight.progress import Progress
    from netweight.recipe import Recipe

    Source: TypeAlias = str | Path | Model | Module
    Folder: TypeAlias = str | Path | Artifact


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
      ModelError: the model cannot be read. UnknownName: no such format (nearest name offered).
    """
    from netweight.jobs.weigh import weigh as job

    return job(model, formats=formats, json=json)


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
    threads: int = 0,
    progress: Progress | None = None,
) -> Run:
    """Train a segmentation net, in full precision or four bits.

    Patients are divided first: to learn from, to choose weights by, to be judged on. The same command resumes a run, to the same bytes.

    Args:
      recipe: training recipe (TOML): the net, its arithmetic, the split, the schedule.
      data: slices with masks: a folder of patients, a data set by name, or "phantom".
      out: folder for the trained net and what was measured of it.
      teacher: finished run on the same split, to learn from as well.
      threads: threads to use, 0 for one per core; other numbers sum in another order and end in other bytes.
      progress: called as pieces of the work are done; only in Python.
    Returns:
      The run: its weights, history and claims lie in ``out``.
    Raises:
      SettingsError: the recipe is wrong. ExistsError: ``out`` holds something else.
      DataError: images and masks that do not belong together, or patients that cannot be divided as asked.
    """
    from netweight.jobs.train import train as job

    return job(recipe, data=data, out=out, teacher=teacher, threads=threads, progress=progress)


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


def study(
    grid: str | Path | dict[str, Any],
    *,
    out: str | Path,
    model: str | None = None,
    data: str | None = None,
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
      workers: cells done at once, each in a process of its own.
      threads: threads of each.
      ray: Ray cluster to do cells on: HOST:PORT, "auto" for the one running here, "local" to start one for this study.
      retry_failed: do cells again that failed before.
      progress: called as pieces of the work are done; only in Python.
    Returns:
      A row per cell, and comparisons paired by seed, with intervals and Holm's correction.
    Raises:
      SettingsError: the grid or one of its recipes is wrong, or no cluster answers. ResourceError: a cluster went away.
    """
    from netweight.jobs.study import study as job

    return job(
        grid,
        out=out,
        model=model,
        data=data,
        workers=workers,
        threads=threads,
        ray=ray,
        retry_failed=retry_failed,
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


def run(
    artifact: Folder | Source,
    *,
    prompt: str | None = None,
    images: str | Path | None = None,
    masks_out: str | Path | None = None,
    threshold: float = 0.5,
    max_tokens: int = 64,
    temperature: float = 0.0,
    seed: int = 0,
    threads: int = 0,
    require_kernels: bool = False,
    progress: Progress | None = None,
) -> Generation | Segmented:
    """Write text from a prompt, or masks of a folder of pictures.

    Text comes piece by piece. Pictures come to the net's size as its training slices did, and what it says comes back to theirs. A picture that
    cannot be read is named, and the others go on.

    Args:
      artifact: artifact folder of a language model, or the original itself; for pictures a trained run or its packed artifact.
      prompt: text to continue.
      images: folder of pictures (PNG, TIFF, JPEG, WebP; patients' folders too) to find lesions in; files named *_mask are left out.
      masks_out: folder for the masks, a/b_mask.png (0 and 255) for a/b.jpg; no file in it is overwritten.
      threshold: least probability of a found pixel.
      max_tokens: most tokens to generate.
      temperature: 0 takes the likeliest token; above 0 samples.
      seed: of the sampling.
      threads: 0 takes as many as torch does.
      require_kernels: an error, not a slow path, where a layer has no packed kernel.
      progress: called as pictures are done; only in Python.
    Returns:
      Pieces of text, or what was done with the pictures and how fast; its ``path`` says how the layers are computed.
    Raises:
      ArtifactError: not an artifact of a language model, or not a net where there are pictures.
      SettingsError: not one of prompt and images. KernelError: ``require_kernels``, and a layer has none.
      DataError: no picture can be read. ExistsError: a mask would take the place of a file.
    """
    from netweight.jobs.run import run as job

    return job(
        artifact,
        prompt=prompt,
        images=images,
        masks_out=masks_out,
        threshold=threshold,
        max_tokens=max_tokens,
        temperature=temperature,
        seed=seed,
        threads=threads,
        require_kernels=require_kernels,
        progress=progress,
    )


def bench(
    artifact: Folder,
    *,
    against: Source | None = None,
    prompt_tokens: int = 128,
    rounds: int = 7,
    tokens: int = 16,
    threads: int = 0,
    require_kernels: bool = False,
    into: Module | None = None,
    example: Tensor | None = None,
    json: bool = False,
) -> Benchmark | str:
    """Measure how fast an artifact runs here, and beside what.

    Args:
      artifact: artifact folder, or a trained run for what it was packed to.
      against: what to put beside it: the original, a run or another artifact; its own weights decoded to float32 if absent.
      prompt_tokens: tokens read at once when prefill is measured.
      rounds: repetitions; contestants take turns.
      tokens: tokens written in one repetition, or pictures segmented one by one.
      threads: 0 takes as many as torch does.
      require_kernels: an error, not a slow path, where a layer has no packed kernel.
      into: architecture of an artifact of a plain module.
      example: input of an artifact that is no language model; a segmentation net's own description gives one.
      json: plain data as JSON instead of a table.
    Returns:
      Speeds, memory, and the share of this machine's read speed; its JSON text with ``json``.
    Raises:
      ArtifactError: not an artifact. KernelError: ``require_kernels``, and a layer has none.
    """
    from netweight.jobs.bench import bench as job

    return job(
        artifact,
        against=against,
        prompt_tokens=prompt_tokens,
        rounds=rounds,
        tokens=tokens,
        threads=threads,
        require_kernels=require_kernels,
        into=into,
        example=example,
        json=json,
    )


def doctor(*, json: bool = False) -> Checkup | str:
    """Check this machine and installation; say what to mend.

    Args:
      json: plain data as JSON instead of a table.
    Returns:
      The findings; their JSON text with ``json``.
    """
    from netweight.jobs.doctor import doctor as job

    return job(json=json)

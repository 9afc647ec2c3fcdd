"""study: run a grid of recipes, of compression or of training, cell by cell and resumable, and say what it shows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from netweight import models, provenance
from netweight import recipe as recipes
from netweight.data import corpora, corpus
from netweight.errors import ExistsError, SettingsError
from netweight.files import write_atomically
from netweight.jobs import _cell, _training_study
from netweight.jobs._study_tasks import CELLS, context_of, said_of, tasks_of
from netweight.jobs._training_findings import TrainingFindings
from netweight.progress import Progress, silent
from netweight.study import Cell, Pool, Recovery, Study, Task, load, recovery, run, settled


@dataclass(frozen=True)
class Findings:
    """A study's cells and what can be concluded from them.

    ``cells`` has a row per cell: its axes, seed, numbers, or why it failed. ``comparisons`` are paired by seed.
    """

    name: str
    original: Mapping[str, float]
    cells: tuple[Mapping[str, Any], ...]
    comparisons: tuple[Recovery, ...]
    baseline: str
    path: Path


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
    """See ``netweight.study``."""
    pool = Pool(workers, threads, ray, retry_failed)
    plan = load(grid)
    _check_folder(Path(out))
    if ray is not None and device != "cpu":
        raise SettingsError("--device with --ray: cells ask a cluster for processors only; leave out one of them")
    if plan.job == "train":
        return _trained(plan, data, model, device, Path(out), pool, progress or silent)
    if device != "cpu":
        raise SettingsError(f"{plan.name} compresses a model, which is done on the processor; --device is for training")
    if data is not None:
        raise SettingsError(f"{plan.name} compresses a model; --data is for studies of training")
    source = model or plan.model
    if not source:
        raise SettingsError(f"{plan.name}: names no model; pass --model")
    for cell in plan.cells:  # what is wrong with any of them is said before the first has run
        with said_of(plan, cell):
            recipes.load(dict(cell.recipe))
    opened = models.load(source)
    folder, tasks = Path(out), _tasks(plan, opened, source, threads)
    found = run(tasks, _cell.work, folder / CELLS, pool, progress=progress or silent)
    findings = _concluded(plan, tasks, found, folder)
    _write(findings, plan, source, opened.sha256)
    return findings


def _check_folder(out: Path) -> None:
    """Raises: ExistsError: something lies there that is no study."""
    if out.exists() and not out.is_dir():
        raise ExistsError(f"{out} is a file; name a folder for the study")
    if out.is_dir() and any(out.iterdir()) and not (out / CELLS).is_dir():
        raise ExistsError(f"{out} already holds something that is not a study; choose another folder or remove it")


def _trained(
    plan: Study, data: str | None, model: str | None, device: str, out: Path, pool: Pool, progress: Progress
) -> TrainingFindings:
    source = data or plan.data
    if model is not None:
        raise SettingsError(f"{plan.name} trains nets that its recipes name; --model is for studies of compression")
    if not source:
        raise SettingsError(f"{plan.name}: names no slices to train on; pass --data")
    return _training_study.study(plan, source, device=device, out=out, pool=pool, progress=progress)


def _tasks(plan: Study, opened: models.Model, source: str, threads: int) -> list[Task]:
    """The original first, then every cell."""
    named = {str(cell.recipe.get("calibration", {}).get("source", "")) for cell in plan.cells}
    context = context_of(
        plan,
        threads,
        model=opened.sha256,
        calibration={name: corpus(name).sha256 for name in sorted(named) if name in corpora() or Path(name).is_file()},
        data=[_cell.data_sha256(measure, opened) for measure in plan.measures],
    )
    first, *cells = tasks_of([Cell({}, 0, {"original": True}), *plan.cells], context, model=source)
    return [replace(first, what={**first.what, "recipe": None}, label="the original"), *cells]


def _concluded(plan: Study, tasks: Sequence[Task], found: Mapping[str, Mapping[str, Any]], folder: Path) -> Findings:
    first = found[tasks[0].key]
    if "failure" in first:
        raise SettingsError(f"{plan.name}: the original could not be measured: {first['failure']}")
    original = {name: row["value"] for name, row in first["value"]["measures"].items()}
    better = {name: row["better"] for name, row in first["value"]["measures"].items()}
    rows = []
    for cell, task in zip(plan.cells, tasks[1:], strict=True):
        result = found[task.key]
        row: dict[str, Any] = {**cell.values, "seed": cell.seed, "key": task.key}
        if "failure" in result:
            row["failure"] = result["failure"]
        else:
            row |= {name: number["value"] for name, number in result["value"]["measures"].items()}
            row |= result["value"]["run"]
        rows.append(row)
    comparisons = settled(_comparisons(plan, rows, original, better), plan.compare.published, plan.compare.published_of)
    return Findings(plan.name, original, tuple(rows), tuple(comparisons), plan.compare.baseline, folder)


def _comparisons(
    plan: Study, rows: Sequence[Mapping[str, Any]], original: Mapping[str, float], better: Mapping[str, str]
) -> list[Recovery]:
    """Every value of the compared axis against the baseline, in every setting of the others, on seeds that both have."""
    axis, baseline = plan.compare.axis, plan.compare.baseline
    others = [name for name in plan.axes if name != axis]
    settings = list(dict.fromkeys(tuple(row[name] for name in others) for row in rows))
    made = []
    for setting in settings:
        here = [row for row in rows if tuple(row[name] for name in others) == setting and "failure" not in row]
        base = {row["seed"]: row for row in here if row[axis] == baseline}
        for value in plan.axes[axis]:
            pairs = [(base[row["seed"]], row) for row in here if row[axis] == value and row["seed"] in base]
            if value == baseline or not pairs:
                continue
            for measure in plan.measures:
                name = measure.name
                a, b = [p[name] for p, _ in pairs], [p[name] for _, p in pairs]
                made.append(recovery(" ".join(setting), value, name, a, b, original[name], better=better[name]))
    return made


def _write(findings: Findings, plan: Study, source: str, model_sha256: str) -> None:
    """study.json: everything, with what it was made of."""
    table = {
        "name": findings.name,
        "model": Path(source).name,
        "model_sha256": model_sha256,
        "environment": provenance.environment(),
        "original": dict(findings.original),
        "cells": [dict(row) for row in findings.cells],
        "comparisons": [asdict(row) for row in findings.comparisons],
        "compare": plan.compare.model_dump(mode="json"),
        "measures": [measure.model_dump(mode="json") for measure in plan.measures],
    }
    write_atomically(findings.path / "study.json", json.dumps(table, indent=1, sort_keys=True).encode())

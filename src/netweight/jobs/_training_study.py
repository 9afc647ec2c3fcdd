"""A grid of trained nets: every cell checked, trained and judged; ``_training_findings`` says what they show."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from netweight import models, provenance
from netweight.errors import SettingsError, nearest
from netweight.evaluate import segmentation
from netweight.files import write_atomically
from netweight.jobs import _training_cell
from netweight.jobs._runs import built
from netweight.jobs._study_tasks import CELLS, context_of, said_of, tasks_of
from netweight.jobs._training_findings import TrainingFindings, concluded
from netweight.jobs.train import opened
from netweight.progress import Progress
from netweight.provenance import sha256_of_json
from netweight.study import Pool, Study, run
from netweight.train import TrainRecipe, load_recipe


def study(plan: Study, source: str, *, device: str, out: Path, pool: Pool, progress: Progress) -> TrainingFindings:
    """Train and judge every cell, then conclude."""
    recipes = []
    for cell in plan.cells:
        with said_of(plan, cell):
            recipes.append(load_recipe(dict(cell.recipe)))
    _check_measures(plan)
    kind = models.device(device).type
    slices: dict[int | None, dict[str, Any]] = {}
    for one in recipes:
        if one.data.size not in slices:
            slices[one.data.size] = opened(source, one).provenance
    _check_nets(plan, recipes, {size: known["size"][0] for size, known in slices.items()})
    context = context_of(plan, pool.threads, device=kind)
    tasks = []
    for cell, one in zip(plan.cells, recipes, strict=True):
        seen = {**context, "slices": slices[one.data.size]["sha256"]}
        tasks += tasks_of([replace(cell, recipe=one.to_table())], seen, data=source, device=device)
    found = run(tasks, _training_cell.work, out / CELLS, pool, progress=progress)
    findings = concluded(
        plan, [task.key for task in tasks], found, out, phantom=any(known["phantom"] for known in slices.values())
    )
    _write(findings, plan, list(slices.values()))
    return findings


def _check_nets(plan: Study, recipes: Iterable[TrainRecipe], images: Mapping[int | None, int]) -> None:
    """Every net can be built and quantized: what is wrong with any of them is said before the first cell. ``images``: sides by ``[data] size``."""
    checked = set()
    for cell, one in zip(plan.cells, recipes, strict=True):
        what = sha256_of_json([one.net.model_dump(), one.qat.model_dump(), images[one.data.size]])
        if what not in checked:
            with said_of(plan, cell):
                built(one, images[one.data.size])
            checked.add(what)


def _check_measures(plan: Study) -> None:
    """Raises: SettingsError: something is to be taken of every cell that no trained net is judged by."""
    masks = np.zeros((2, 8, 8), np.bool_)
    masks[:, 2:4, 2:4] = True
    judged = segmentation(
        {"any": np.where(masks, np.float32(0.75), np.float32(0.25))}, masks, ["a", "b"], source="any", split="any"
    )
    known = sorted({claim.metric for claim in judged})
    for measure in plan.measures:
        if measure.metric not in known:
            raise SettingsError(
                f"measure {measure.name}: metric = {measure.metric!r} is not measured of a trained net{nearest(measure.metric, known)}"
            )


def _write(findings: TrainingFindings, plan: Study, slices: list[dict[str, Any]]) -> None:
    """study.json: everything, with what it was made of."""
    table = {
        "name": findings.name,
        "slices": slices,
        "environment": provenance.environment(),
        "cells": [dict(row) for row in findings.cells],
        "comparisons": [asdict(row) for row in findings.comparisons],
        "shares": {name: asdict(found) for name, found in findings.shares.items()},
        "ranks": {name: asdict(found) for name, found in findings.ranks.items()},
        "left_out": list(findings.left_out),
        "better": dict(findings.better),
        "compare": plan.compare.model_dump(mode="json"),
        "measures": [measure.model_dump(mode="json") for measure in plan.measures],
    }
    write_atomically(findings.path / "study.json", json.dumps(table, indent=1, sort_keys=True))

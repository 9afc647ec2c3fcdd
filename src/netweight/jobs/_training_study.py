"""A grid of trained nets: what each recipe costs, paired by seed, and how much is due to the net, its size and the recipe."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from netweight import data, models, provenance
from netweight.errors import DataError
from netweight.files import write_atomically
from netweight.jobs import _training_cell
from netweight.jobs._study_tasks import context_of, tasks_of
from netweight.progress import Progress
from netweight.study import (
    Anova,
    Paired,
    Pool,
    Rankings,
    Study,
    anova,
    corrected,
    lost,
    paired,
    rankings,
    run,
)
from netweight.train import load_recipe, recipe

REPLICATE = "replicate"


@dataclass(frozen=True)
class TrainingFindings:
    """A study's cells and what can be concluded from them.

    ``cells`` has a row per cell: its axes, seed, numbers, or why it failed. ``comparisons`` are paired by seed (and by fold);
    ``shares`` say per measure where the variance of what was lost comes from, ``ranks`` how alike the seeds rank the recipes.
    ``left_out`` names measures without such findings, and why.
    """

    name: str
    cells: tuple[Mapping[str, Any], ...]
    comparisons: tuple[Paired, ...]
    shares: Mapping[str, Anova]
    ranks: Mapping[str, Rankings]
    left_out: tuple[str, ...]
    path: Path
    phantom: bool


def study(plan: Study, source: str, *, device: str, out: Path, pool: Pool, progress: Progress) -> TrainingFindings:
    """Train and judge every cell, then conclude."""
    recipes = [load_recipe(dict(cell.recipe)) for cell in plan.cells]
    for one in recipes:  # what is wrong with any of them is said before the first has run
        recipe(one.qat.use)
        models.nets.sizes(one.net.use)
    kind = models.device(device).type
    slices = data.segmentation(source)
    context = context_of(plan, pool.threads, slices=slices.sha256, device=kind)
    tasks = tasks_of(plan.cells, context, data=source, device=device)
    found = run(tasks, _training_cell.work, out / "cells", pool, progress=progress)
    findings = concluded(plan, [task.key for task in tasks], found, out, phantom=slices.phantom)
    _write(findings, plan, slices.provenance)
    return findings


def concluded(
    plan: Study, keys: Sequence[str], found: Mapping[str, Mapping[str, Any]], out: Path, *, phantom: bool
) -> TrainingFindings:
    """Rows, paired comparisons, shares of variance and rankings from the cells' results."""
    rows, better = [], {}
    for cell, key in zip(plan.cells, keys, strict=True):
        result = found[key]
        row: dict[str, Any] = {**cell.values, "seed": cell.seed, "key": key}
        if "failure" in result:
            row["failure"] = result["failure"]
        else:
            numbers = result["value"]["measures"]
            row |= {name: number["value"] for name, number in numbers.items()} | result["value"]["run"]
            better |= {name: number["better"] for name, number in numbers.items()}
        rows.append(row)
    compare = plan.compare
    table = [
        {**row, REPLICATE: " ".join([f"seed {row['seed']}", *(str(row[axis]) for axis in compare.replicates)])}
        for row in rows
        if "failure" not in row
    ]
    others = [name for name in plan.axes if name != compare.axis and name not in compare.replicates]
    comparisons, shares, ranks, left_out = [], {}, {}, []
    for measure in plan.measures:
        name = measure.name
        if name not in better:
            left_out.append(f"{name}: no cell has it")
            continue
        comparisons += _comparisons(plan, table, others, name, better[name])
        factors = [axis for axis in (*others, compare.axis) if len(plan.axes[axis]) > 1]
        within = [*others, REPLICATE]
        try:
            down = lost(
                table, axis=compare.axis, baseline=compare.baseline, within=within, value=name, better=better[name]
            )
            kept = [factor for factor in factors if len({row[factor] for row in down}) > 1]
            shares[name] = anova(down, factors=kept, value="lost", replicate=REPLICATE)
            ranks[name] = rankings(table, items=compare.axis, blocks=within, value=name, better=better[name])
        except DataError as error:
            left_out.append(f"{name}: {error}")
    return TrainingFindings(
        plan.name, tuple(rows), tuple(corrected(comparisons)), shares, ranks, tuple(left_out), out, phantom
    )


def _comparisons(
    plan: Study, table: Sequence[Mapping[str, Any]], others: Sequence[str], measure: str, better: Any
) -> list[Paired]:
    """Every value of the compared axis against the baseline, in every setting of the others, on replicates that both have."""
    axis, baseline = plan.compare.axis, plan.compare.baseline
    made = []
    for setting in dict.fromkeys(tuple(row[name] for name in others) for row in table):
        here = [row for row in table if tuple(row[name] for name in others) == setting and row[measure] is not None]
        base = {row[REPLICATE]: row[measure] for row in here if row[axis] == baseline}
        for value in plan.axes[axis]:
            pairs = [
                (row[measure], base[row[REPLICATE]]) for row in here if row[axis] == value and row[REPLICATE] in base
            ]
            if value == baseline or not pairs:
                continue
            name = " ".join([*setting, value])
            a, b = zip(*pairs, strict=True)
            made.append(paired(name, a, baseline, b, measure=measure, better=better))
    return made


def _write(findings: TrainingFindings, plan: Study, slices: Mapping[str, Any]) -> None:
    """study.json: everything, with what it was made of."""
    table = {
        "name": findings.name,
        "slices": dict(slices),
        "environment": provenance.environment(),
        "cells": [dict(row) for row in findings.cells],
        "comparisons": [asdict(row) for row in findings.comparisons],
        "shares": {name: asdict(found) for name, found in findings.shares.items()},
        "ranks": {name: asdict(found) for name, found in findings.ranks.items()},
        "left_out": list(findings.left_out),
        "compare": plan.compare.model_dump(mode="json"),
        "measures": [measure.model_dump(mode="json") for measure in plan.measures],
    }
    write_atomically(findings.path / "study.json", json.dumps(table, indent=1, sort_keys=True))

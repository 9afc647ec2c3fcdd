"""Finished cells of a study of training as a record: the study goes on from it on another machine, and what rounding does in each net is kept.

    python benchmarks/study_cells.py keep STUDY_FOLDER --plan recipes/studies/NAME.toml --record benchmarks/records/DATE_NAME_HARDWARE
    python benchmarks/study_cells.py restore STUDY_FOLDER --record benchmarks/records/DATE_NAME_HARDWARE

`keep` adds cells to the record's cells.json: the result, every claim of the run, the machine, and the trained net looked at once more
(underflow, saturation and error by operand, distinct values of attention, oscillating weights). What is in the record already is not looked at
again. `restore` puts results where `netweight study --out STUDY_FOLDER` finds them; their keys hold the hash of the code, so that must be the
commit of the record. Weights are not kept: what only they can tell has to be asked before their machine goes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from netweight import provenance
from netweight.files import write_atomically
from netweight.jobs import _look, _runs
from netweight.study import Cell, Study, load
from netweight.train import load_recipe

CELLS, RESULT = "cells.json", "result.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("action", choices=("keep", "restore"))
    parser.add_argument("study", type=Path)
    parser.add_argument("--record", type=Path, required=True)
    parser.add_argument("--plan", type=Path)
    given = parser.parse_args()
    if given.action == "restore":
        print(f"{restore(given.study, given.record)} cells put into {given.study}")
        return
    if given.plan is None:
        parser.error("keep needs --plan")
    torch.set_num_threads(1)
    plan = load(given.plan)
    cells = keep(given.study, plan, given.record)
    if not (given.record / "study.json").exists():
        write_atomically(given.record / "README.md", "\n".join(_page(plan, given, cells)) + "\n")


def kept(record: Path) -> dict[str, dict[str, Any]]:
    """The record's cells by key; none if it has no such file."""
    where = record / CELLS
    return json.loads(where.read_text(encoding="utf-8"))["cells"] if where.exists() else {}


def restore(study: Path, record: Path) -> int:
    """Every result of the record that the study lacks, in its place; how many."""
    count = 0
    for key, cell in kept(record).items():
        where = study / "cells" / key / RESULT
        if not where.exists():
            where.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(where, json.dumps(cell["result"], indent=1, sort_keys=True))
            count += 1
    return count


def keep(study: Path, plan: Study, record: Path) -> dict[str, dict[str, Any]]:
    """The record's cells with those added that have finished since; written after each."""
    named = {load_recipe(dict(cell.recipe)).sha256: cell for cell in plan.cells}
    cells = kept(record)
    record.mkdir(parents=True, exist_ok=True)
    for where in sorted((study / "cells").glob(f"*/{RESULT}")):
        result, key = json.loads(where.read_text(encoding="utf-8")), where.parent.name
        if key in cells or "failure" in result or not _runs.is_run(where.parent / "run"):
            continue
        run = _runs.read(where.parent / "run")
        if run.recipe.sha256 in named:
            cells[key] = {"result": result, **_told(run, named[run.recipe.sha256])}
            write_atomically(record / CELLS, json.dumps({"cells": cells}, indent=1, sort_keys=True))
            print(f"{key}: {named[run.recipe.sha256].label}", flush=True)
    return cells


def _told(run: _runs.Run, cell: Cell) -> dict[str, Any]:
    """What a run says, and what is seen of its net."""
    net, quantized = _runs.net_of(run)
    environment = run.training["environment"]
    return {
        "values": {**cell.values, "seed": cell.seed},
        "environment": {name: environment[name] for name in ("cpu", "commit", "threads", "versions")},
        "losses": [row["validation"] for row in run.training["history"]["rows"]],
        "claims": {one.metric: [one.value, one.low, one.high, one.n] for one in run.claims()},
        "looked": asdict(_look.look(run, net, quantized, *_runs.slices_of(run))),
        "looked_at": provenance.environment()["commit"],
    }


def _page(plan: Study, given: argparse.Namespace, cells: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    commits = sorted({cell["environment"]["commit"][:12] for cell in cells.values()})
    machines = sorted({cell["environment"]["cpu"] for cell in cells.values()})
    yield f"# {plan.name}: unfinished, {len(cells)} of {len(plan.cells)} cells"
    yield ""
    yield f"`{given.plan.as_posix()}`; {' and '.join(machines)}, commit {' and '.join(commits)}. Nothing is concluded from part of it."
    yield "To go on, restore them by the script of the present commit, then study by the code of that one:"
    yield ""
    yield f"    python benchmarks/study_cells.py restore STUDY --record {given.record.as_posix()}"
    yield f"    netweight study {given.plan.as_posix()} --out STUDY --workers 2"


if __name__ == "__main__":
    main()

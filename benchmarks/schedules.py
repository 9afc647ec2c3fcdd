"""How well float32 runs of one data set do on the patients that chose their weights, and on those that nothing saw: what a schedule is chosen by.

    python benchmarks/schedules.py RUN... --out benchmarks/records/DATE_NAME_HARDWARE

The runs are what `netweight train` or a cell of `netweight study` left. A schedule is to be chosen by the validation columns; the test patients'
AUPRC is read from the run's own claims. Only runs without rounding are taken.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from _numbers import keep
from safetensors.torch import load_file

from netweight import data, models
from netweight.claim import Claim, read_claims
from netweight.evaluate import segmentation
from netweight.train import TrainRecipe, divided, load_recipe

BATCH = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = sorted(
        (_row(run) for run in given.runs), key=lambda row: (row["net"]["use"], row["passes"], row["validation_loss"])
    )
    where = rows[0]["environment"]
    page = [
        "# Schedules of short trainings in float32",
        "",
        f"{rows[0]['data']}, {rows[0]['side']} pixels; {where['cpu']}, {where['cores']} cores, one thread; commit and settings of every run in results.json. "
        "One run each: what another seed would give is not known. 95 % intervals over patients (BCa bootstrap).",
        "",
        "| net | passes | batch | rate | dropout | validation loss | AUPRC, validation | AUPRC, test |",
        "|---|---|---|---|---|---|---|---|",
    ]
    page += [_line(row) for row in rows]
    keep(given.out, {"runs": rows}, page)


def _row(folder: Path) -> dict[str, Any]:
    recipe, trained = (
        load_recipe(folder / "recipe.toml"),
        json.loads((folder / "training.json").read_text(encoding="utf-8")),
    )
    if recipe.qat.use != "baseline":
        raise SystemExit(f"{folder} was trained under {recipe.qat.use}: only runs in float32 are compared here")
    history = trained["history"]
    best = next(row for row in history["rows"] if row["epoch"] == history["best"])
    test = next(claim for claim in read_claims(folder / "claims.jsonl") if claim.metric == "auprc")
    return {
        "net": recipe.net.model_dump(exclude_none=True),
        "training": recipe.training.model_dump(),
        "seed": recipe.seed,
        "passes": len(history["rows"]),
        "data": trained["data"]["source"],
        "side": trained["image"],
        "environment": dict(trained["environment"]),
        "validation_loss": best["validation"],
        "validation": _said(_validation(folder, recipe, trained)),
        "test": _said(test),
    }


def _validation(folder: Path, recipe: TrainRecipe, trained: dict[str, Any]) -> Claim:
    """AUPRC on the run's own validation patients."""
    slices = data.segmentation(trained["data"]["given"], size=recipe.data.size)
    split = divided(slices, recipe.data.split)
    if split.sha256 != trained["split"]["sha256"]:
        raise SystemExit(f"{slices.source} is not divided as when {folder} was trained")
    net = models.nets.build(
        recipe.net.use,
        recipe.net.size,
        image=trained["image"],
        patch=recipe.net.patch,
        dropout=recipe.net.dropout,
        seed=recipe.seed,
    )
    net.load_state_dict(load_file(folder / "weights.safetensors"))
    net.eval()
    rows = list(split.validation)
    with torch.inference_mode():
        found = [net(data.normalise(slices.images[rows[k : k + BATCH]])) for k in range(0, len(rows), BATCH)]
    probabilities = torch.sigmoid(torch.cat(found)[:, 0]).numpy()
    claims = segmentation(
        {folder.name: probabilities},
        slices.masks[rows],
        [slices.patients[k] for k in rows],
        metrics={"mask_ranking": {}},
        source=slices.source,
        split="validation",
    )
    return next(claim for claim in claims if claim.metric == "auprc")


def _said(claim: Claim) -> dict[str, Any]:
    return {"value": claim.value, "low": claim.low, "high": claim.high, "patients": claim.n}


def _line(row: dict[str, Any]) -> str:
    net, training = row["net"], row["training"]
    parts = [net["use"], row["passes"], training["batch"], training["lr"], net.get("dropout", "the net's own")]
    parts.append(f"{row['validation_loss']:.3f}")
    for claim in (row["validation"], row["test"]):
        parts.append(f"{claim['value']:.3f} [{claim['low']:.3f}, {claim['high']:.3f}], n = {claim['patients']}")
    return "| " + " | ".join(map(str, parts)) + " |"


if __name__ == "__main__":
    main()

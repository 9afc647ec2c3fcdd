"""netweight on the given windows: asymmetric integer groups in the decoder blocks' linear layers, embedding untouched.

One call reads the model, compresses, writes the artifact and checks it, so the phase "quantize" holds all of that:
compare it with the sum of the others' phases. The decoded weights come from the artifact, not from memory.
"""

from __future__ import annotations

from typing import Any

import _measure

_measure.quiet_hub()

import torch

import netweight
from netweight import artifact, recipe

BATCH_WINDOWS = 2
PRECISION = "bf16" if torch.ops.mkldnn._is_mkldnn_bf16_supported() else "fp32"  # elsewhere bfloat16 is emulated
BODY = {"only": ["model.layers.*"]}
GPTQ: dict[str, Any] = {"use": "gptq", **BODY}
QAT: dict[str, Any] = {
    "use": "block_qat", "weight_lr": 2e-3, "scale_lr": 1e-3, "epochs": 8, "precision": PRECISION, **BODY,
}  # fmt: skip
E2E: dict[str, Any] = {"use": "e2e_scales", "norms": True, "epochs": 3, "precision": PRECISION, **BODY}
SW: dict[str, Any] = {"loss": {"use": "mse+sw", "sw": 0.1, "projections": 128}}
TRAINED = ("omniquant", "tesseraq", "signround", "block_qat")
STEPS: dict[str, list[dict[str, Any]]] = {
    "gptq": [GPTQ],
    "gptq-minmax": [GPTQ | {"range": "minmax"}],
    "awq-gptq": [{"use": "awq", "only": ["model.layers.*"]}, GPTQ],
    "gptq-ample": [GPTQ],
    "gptq-e2e": [GPTQ, E2E | {"epochs": 1}],
    "gptq-e2e-2": [GPTQ, E2E | {"epochs": 2}],
    "rtn": [{"use": "rtn", **BODY}],
    "hqq": [{"use": "hqq", **BODY}],  # in whole zeros there is nothing for it to move at two bits: see "hqq-fz"
    "hqq-fz": [{"use": "hqq", **BODY}],
    "omniquant": [{"use": "omniquant", "epochs": 10, **BODY}],
    "omniquant-sw": [{"use": "omniquant", "epochs": 10, **SW, **BODY}],
    "tesseraq": [{"use": "tesseraq", "iterations": 25, "precision": PRECISION, **BODY}],
    "block-qat": [QAT],
    "block-qat-sw": [QAT | SW],
    "block-qat-e2e": [QAT, E2E],
    "block-qat-e2e-short": [QAT | {"epochs": 4}, E2E],
}


def steps(job: _measure.Job) -> list[dict[str, Any]]:
    """The variant's steps, each with the number format of the job; ``-fz`` with zeros in float16, .22 bits more at groups of 64."""
    format = {"format": job.number_format + ("-fz" if job.variant.endswith("-fz") else "")}
    return [step if step["use"] == "e2e_scales" else step | format for step in STEPS[job.variant]]


def decoded(made: artifact.Artifact) -> dict[str, torch.Tensor]:
    """Every tensor of the artifact by Hugging Face name; quantized layers are decoded from their stored codes."""
    weights = {name: made.tensor(name) for name in made.plain_names()}
    for layer in made.manifest.layers:
        weights[f"{layer}.weight"] = made.qtensor(layer).decode(dtype=torch.float32)
    return weights


def main() -> None:
    job = _measure.parse_job(tuple(STEPS))
    windows, packed, clock = job.windows(), job.out / "packed", _measure.Clock()
    plan = recipe.load({"name": job.variant, "seed": 0, "step": steps(job)})
    trained = any(step["use"] in TRAINED for step in plan.to_table()["step"])
    batches = [{"input_ids": batch} for batch in windows.split(1 if trained else BATCH_WINDOWS)]
    with clock.phase("quantize"):
        made = netweight.compress(
            str(job.model_dir),
            plan,
            out=packed,
            threads=job.threads,
            calibration=batches,
            memory="ample" if job.variant.endswith("-ample") else "lean",
        )
    _measure.finish(
        job,
        peer="netweight",
        package="netweight",
        settings={"recipe": plan.to_table()["step"], "batch_windows": 1 if trained else BATCH_WINDOWS},
        clock=clock,
        weights=decoded(made),
        packed=packed,
        notes=["'quantize' holds reading, compressing, writing, and the check of the artifact against the simulation"],
        fallbacks=[f"{row.module}: {'; '.join(row.notes)}" for row in made.ledger.fallbacks()],
    )


if __name__ == "__main__":
    main()

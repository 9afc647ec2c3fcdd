"""GPTQModel on the given windows: every linear layer of the decoder blocks, ``lm_head`` untouched.

Variants: ``gptq`` is asymmetric with the library's defaults (group-aware activation order, damping 0.05 raised on
failure, blocks of 128 columns); ``gptq-sym`` the same with symmetric codes, the library's own default.
"""

from __future__ import annotations

import os

import _measure

_measure.quiet_hub()
os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "2")  # its own choice on 1 or 2 cores, 1, makes its thread pool raise

import torch
import torch._dynamo
from gptqmodel import BACKEND, GPTQModel, QuantizeConfig

BATCH_WINDOWS = 8
DAMPING = 0.05  # the library's default for GPTQ, given explicitly so that a raised one can be told


def decoded(packed: str) -> dict[str, torch.Tensor]:
    """Codes, zero points and scales as saved, multiplied out in float32 by the library's own torch layer.

    Loaded as float16 because the layer refuses float32; its scales are stored as float16, so widening them is exact.
    """
    torch._dynamo.config.disable = True  # its torch layer compiles the decoding, once per shape
    model = GPTQModel.load(packed, backend=BACKEND.GPTQ_TORCH, device="cpu", dtype=torch.float16).model
    weights = {}
    for name, module in model.named_modules():
        if hasattr(module, "dequantize_weight"):
            module.scales = module.scales.float()
            weights[f"{name}.weight"] = module.dequantize_weight().detach().T.contiguous()
    return weights


def fallbacks(log: dict[str, list[dict[str, str]]]) -> list[str]:
    """Layers whose log row says that something other than GPTQ at the asked damping was done."""
    found = []
    for row in log["gptq"]:
        name = f"layers.{row['layer']}.{row['module']}"
        if "fallback" in str(row["loss"]).lower():
            found.append(f"{name}: {row['loss']}")
        elif abs(float(row["damp"]) - DAMPING) > 1e-6:
            found.append(f"{name}: damping raised to {row['damp']}")
    return found


def main() -> None:
    job = _measure.parse_job(("gptq", "gptq-sym"))
    job.integers_only()
    config = QuantizeConfig(
        bits=job.bits,
        group_size=job.group,
        sym=job.variant == "gptq-sym",
        damp_percent=DAMPING,
        offload_to_disk=False,
        device="cpu",
    )
    windows, packed, clock = job.windows(), job.out / "packed", _measure.Clock()
    samples = [{"input_ids": row[None], "attention_mask": torch.ones_like(row)[None]} for row in windows]
    with clock.phase("load"):
        model = GPTQModel.load(str(job.model_dir), config, dtype=torch.float32)
    with clock.phase("quantize"):
        log = model.quantize(samples, batch_size=BATCH_WINDOWS)
    with clock.phase("save"):
        model.save(str(packed))
    del model
    _measure.finish(
        job,
        peer="gptqmodel",
        package="gptqmodel",
        settings={
            "symmetric": config.sym,
            "damping": DAMPING,
            "act_group_aware": config.act_group_aware,
            "offload_to_disk": False,
            "dtype": "torch.float32",
            "batch_windows": BATCH_WINDOWS,
        },
        clock=clock,
        weights=decoded(str(packed)),
        packed=packed,
        notes=[],
        fallbacks=fallbacks(log),
    )


if __name__ == "__main__":
    main()

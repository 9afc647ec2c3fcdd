"""llm-compressor on the given windows: asymmetric integer groups (or its NVFP4A16), every linear layer except ``lm_head``.

Variants: ``gptq`` is its GPTQModifier with its defaults (damping 0.01, blocks of 128 columns, activation order
"static"); ``rtn`` its QuantizationModifier. The library stores scales in the model's own type, so a float32 model costs
16 bits more per group than a bfloat16 one; ``gptq-bf16`` runs the model in bfloat16 as its examples do.
"""

from __future__ import annotations

import _measure

_measure.quiet_hub()

import torch
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme, preset_name_to_scheme
from llmcompressor import oneshot
from llmcompressor.modifiers import Modifier
from llmcompressor.modifiers.gptq import GPTQModifier
from llmcompressor.modifiers.quantization import QuantizationModifier
from loguru import logger
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, CompressedTensorsConfig

BATCH_WINDOWS = 8


def recipe(job: _measure.Job) -> Modifier:
    weights = QuantizationArgs(num_bits=job.bits, type="int", strategy="group", group_size=job.group, symmetric=False)
    if job.format == "nvfp4":
        weights = preset_name_to_scheme("NVFP4A16", ["Linear"]).weights
    groups = {"group_0": QuantizationScheme(targets=["Linear"], weights=weights)}
    kind = QuantizationModifier if job.variant == "rtn" else GPTQModifier
    return kind(config_groups=groups, ignore=["lm_head"])


def batches(windows: torch.Tensor) -> DataLoader:
    """Windows in the order given, ``BATCH_WINDOWS`` at a time."""
    rows = [{"input_ids": row, "attention_mask": torch.ones_like(row)} for row in windows]
    return DataLoader(rows, batch_size=BATCH_WINDOWS, shuffle=False)  # pyright: ignore[reportArgumentType]


def decoded(packed: str) -> dict[str, torch.Tensor]:
    """The saved model as the library's own reader decodes it."""
    config = CompressedTensorsConfig(run_compressed=False)
    model = AutoModelForCausalLM.from_pretrained(packed, quantization_config=config, dtype=torch.float32)
    return {name: tensor.detach().float() for name, tensor in model.state_dict().items()}


def main() -> None:
    job = _measure.parse_job(("gptq", "gptq-bf16", "rtn"))
    fallbacks: list[str] = []
    logger.add(
        lambda line: fallbacks.append(str(line)), level="WARNING", filter=lambda r: "round-to-nearest" in r["message"]
    )
    dtype = torch.bfloat16 if job.variant.endswith("bf16") else torch.float32
    data, packed, clock = batches(job.windows()), job.out / "packed", _measure.Clock()
    with clock.phase("load"):
        model = AutoModelForCausalLM.from_pretrained(job.model_dir, dtype=dtype)
    with clock.phase("quantize"):
        oneshot(model=model, recipe=recipe(job), dataset=data, num_calibration_samples=len(job.windows()))
    with clock.phase("save"):
        model.save_pretrained(packed, save_compressed=True)
    del model
    _measure.finish(
        job,
        peer="llm-compressor",
        package="llmcompressor",
        settings={
            "symmetric": job.format == "nvfp4",
            "ignore": ["lm_head"],
            "dtype": str(dtype),
            "batch_windows": BATCH_WINDOWS,
        },
        clock=clock,
        weights=decoded(str(packed)),
        packed=packed,
        notes=[],
        fallbacks=fallbacks,
    )


if __name__ == "__main__":
    main()

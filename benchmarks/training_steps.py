"""What a training step with quantized products costs beside one in float32: same net, same slices, taking turns.

    python benchmarks/training_steps.py --out benchmarks/records/DATE_training-steps_HARDWARE [--sizes 500k 4m 15m] [--threads 1] [--rounds 15]

A step is what `netweight train` does: forward, loss, backward, clipping of gradients, the optimizer. In every round each recipe takes one
step, in an order drawn anew, so that a busy moment falls on all; the ratio is to the float32 step of the same round, its median
with an interval of order statistics over rounds.
"""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path
from typing import Any

import torch
from _numbers import about, cell, keep, spread
from torch import nn

from netweight import models, provenance
from netweight.errors import NetweightError
from netweight.train import Training, bce_tversky, optimizer, quantize

RECIPES = ("baseline", "nvfp4-forward", "nvfp4", "nvfp4-2d-rht", "nvfp4-2d-rht-sr", "nvfp4-sr")
NETS = ("cnn", "vit", "swin", "depthwise", "efficientnet", "monai-unet", "monai-swinunetr")


class Stepper:
    """One net under one recipe."""

    def __init__(self, name: str, size: str, image: int, recipe: str) -> None:
        self.net = models.nets.build(name, size, image=image, seed=0).train()
        self.quantized = quantize(self.net, recipe, skip=models.nets.unquantized(name), seed=0)
        self.optimizer = optimizer(list(self.net.parameters()), Training(optimizer="adamw", lr=1e-4))
        self.count = 0

    def step(self, images: torch.Tensor, masks: torch.Tensor) -> float:
        """Seconds of one step."""
        begun = time.perf_counter()
        self.quantized.step = self.count
        self.optimizer.zero_grad(set_to_none=True)
        bce_tversky(self.net(images), masks).backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.optimizer.step()
        self.count += 1
        return time.perf_counter() - begun


def measured(name: str, size: str, given: argparse.Namespace) -> dict[str, Any]:
    """Ratios of the steps of one net of one size, by recipe."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(given.batch, 3, given.image, given.image, generator=generator)
    masks = torch.rand(given.batch, given.image, given.image, generator=generator) < 0.05
    steppers = {recipe: Stepper(name, size, given.image, recipe) for recipe in RECIPES}
    for stepper in steppers.values():
        stepper.step(images, masks)
    order, draw = list(RECIPES), random.Random(0)
    rounds = []
    for _ in range(given.rounds):
        draw.shuffle(order)
        rounds.append({recipe: steppers[recipe].step(images, masks) for recipe in order})
    ratios = {recipe: [row[recipe] / row["baseline"] for row in rounds] for recipe in RECIPES[1:]}
    return {
        "baseline_ms_per_image": 1e3 * sorted(row["baseline"] for row in rounds)[len(rounds) // 2] / given.batch,
        "ratios": {recipe: spread(values) for recipe, values in ratios.items()},
        "rounds": rounds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=["500k"])
    parser.add_argument("--image", type=int, default=128, help="pixels along a side")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    found = {
        f"{name} {size}": measured(name, size, given) for size in given.sizes for name in NETS if _there(name, size)
    }
    settings = {key: value for key, value in vars(given).items() if key != "out"}
    environment = provenance.environment(threads=given.threads)
    keep(
        given.out, {"settings": settings, "environment": environment, "nets": found}, page(settings, environment, found)
    )


def _there(name: str, size: str) -> bool:
    """Not every net has every size, and MONAI's need MONAI."""
    try:
        models.nets.build(name, size, image=128, seed=0)
    except NetweightError as error:
        print(f"left out: {error}")
        return False
    return True


def page(settings: dict[str, Any], environment: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """The record as a table."""
    return [
        f"# {(__doc__ or '').splitlines()[0]}",
        "",
        f"Medians of {settings['rounds']} rounds with 95 % intervals. {about(settings, environment)}",
        "",
        f"| step over float32's | {' | '.join(RECIPES[1:])} |",
        "|---" * len(RECIPES) + "|",
        *(f"| {name} | {' | '.join(cell(one) for one in row['ratios'].values())} |" for name, row in found.items()),
    ]


if __name__ == "__main__":
    main()

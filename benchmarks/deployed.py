"""How many pictures a second the packed nets segment, beside the same nets in float32: same pictures, taking turns.

    python benchmarks/deployed.py --out benchmarks/records/DATE_deployed_HARDWARE [--threads 2] [--rounds 60]

The nets are packed as `netweight train` packs them, with weights as they were drawn: speed does not depend on what was learnt. In every
round each contestant segments one picture, in an order drawn anew; "float32" is the net before it was packed, "auto" what the
runtime chooses, "kernels" every packed kernel there is. Ratios are to float32 of the same round, medians with intervals of order statistics
over rounds. "With files" is `netweight run` over a folder of PNG pictures: reading, resizing, the net, writing the mask.
"""

from __future__ import annotations

import argparse
import copy
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _numbers import about, cell, keep, spread
from PIL import Image
from torch import nn

import netweight
from netweight import data, models, provenance, runtime
from netweight.artifact import Artifact
from netweight.jobs._masks import Segmented
from netweight.jobs._pack import pack
from netweight.progress import silent
from netweight.runtime import kernels
from netweight.train import quantize

NETS = ("cnn", "vit", "swin", "depthwise", "efficientnet")
REAL_TIME = 25  # pictures a second
SILENT = 1.0  # a net that has learnt nothing draws noise, which a PNG takes ten times as long for as a mask with a lesion or none


def contestants(name: str, given: argparse.Namespace, folder: Path) -> tuple[dict[str, nn.Module], Artifact]:
    """The same net three ways, and its artifact."""
    net = models.nets.build(name, given.size, image=given.image, seed=0).eval()
    plain = copy.deepcopy(net)
    quantized = quantize(net, given.recipe, skip=models.nets.unquantized(name), seed=0)
    example = torch.randn(1, 3, given.image, given.image, generator=torch.Generator().manual_seed(0))
    artifact = pack(net, quantized, [example], folder / name, threads=given.threads, progress=silent)
    ways = {way: runtime.load(artifact, kernels=how).module for way, how in (("auto", "auto"), ("kernels", "exact"))}
    return {"float32": plain, **ways}, artifact


@torch.inference_mode()
def measured(name: str, given: argparse.Namespace, folder: Path, pictures: Path) -> dict[str, Any]:
    """One net's speeds."""
    nets, artifact = contestants(name, given, folder)
    shown = data.normalise(np.asarray(Image.open(next(pictures.iterdir())))[None])
    for net in nets.values():
        for _ in range(3):
            net(shown)
    order, draw = list(nets), random.Random(0)
    rounds = []
    for _ in range(given.rounds):
        draw.shuffle(order)
        rounds.append({way: _seconds(nets[way], shown) for way in order})
    files = [_with_files(artifact, pictures, folder / f"{name}_masks_{n}", given.threads) for n in range(given.folders)]
    return {
        "pictures_per_s": {way: spread([1 / row[way] for row in rounds]) for way in nets},
        "p99_ms": {way: 1e3 * float(np.quantile([row[way] for row in rounds], 0.99)) for way in nets},
        "speed_over_float32": {
            way: spread([row["float32"] / row[way] for row in rounds]) for way in nets if way != "float32"
        },
        "megabytes": {way: runtime.bytes_in_memory(net) / 1e6 for way, net in nets.items()},
        "with_files": {
            "pictures_per_s": spread([one.images_per_s for one in files]),
            "p99_ms": spread([1e3 * one.p99_s for one in files]),
        },
        "path": files[0].path,
        "rounds": rounds,
    }


def _with_files(artifact: Artifact, pictures: Path, masks: Path, threads: int) -> Segmented:
    found = netweight.run(artifact, images=pictures, masks_out=masks, threads=threads, threshold=SILENT)
    assert isinstance(found, Segmented)
    return found


def _seconds(net: nn.Module, shown: torch.Tensor) -> float:
    begun = time.perf_counter()
    net(shown)
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", default="500k")
    parser.add_argument("--image", type=int, default=256, help="pixels along a side")
    parser.add_argument("--recipe", default="nvfp4-2d-rht-sr")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--pictures", type=int, default=40, help="in the folder that is read with files")
    parser.add_argument("--folders", type=int, default=9, help="times that folder is read")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    kernels.set_threads(given.threads)
    with tempfile.TemporaryDirectory() as temporary:
        folder, pictures = Path(temporary), Path(temporary) / "pictures"
        pictures.mkdir()
        slices = data.phantom(size=given.image)
        for number in range(given.pictures):
            Image.fromarray(slices.images[number % len(slices)]).save(pictures / f"{number:04d}.png")
        found = {name: measured(name, given, folder, pictures) for name in NETS}
    settings = {key: value for key, value in vars(given).items() if key != "out"} | {"kernels": kernels.isa()}
    environment = provenance.environment(threads=given.threads)
    keep(
        given.out, {"settings": settings, "environment": environment, "nets": found}, page(settings, environment, found)
    )


def page(settings: dict[str, Any], environment: dict[str, Any], found: dict[str, dict[str, Any]]) -> list[str]:
    """The record as a table."""
    fast = [name for name, row in found.items() if row["with_files"]["pictures_per_s"]["median"] >= REAL_TIME]
    return [
        f"# {(__doc__ or '').splitlines()[0]}",
        "",
        f"Medians of {settings['rounds']} rounds, with files of {settings['folders']} times {settings['pictures']} pictures, with 95 % "
        f"intervals. {about(settings, environment)}",
        "",
        "| net | float32, pictures/s | auto | kernels | auto over float32 | kernels over float32 | auto p99, ms | with files, pictures/s "
        "| memory, MB: float32, auto, kernels |",
        "|---" * 9 + "|",
        *(_row(name, row) for name, row in found.items()),
        "",
        f"Real time, at least {REAL_TIME} pictures a second with files: {', '.join(fast) or 'none'}.",
    ]


def _row(name: str, row: dict[str, Any]) -> str:
    speeds = [cell(one) for one in row["pictures_per_s"].values()]
    ratios = [cell(one) for one in row["speed_over_float32"].values()]
    memory = ", ".join(f"{one:.2f}" for one in row["megabytes"].values())
    rest = [f"{row['p99_ms']['auto']:.1f}", cell(row["with_files"]["pictures_per_s"]), memory]
    return f"| {' | '.join([name, *speeds, *ratios, *rest])} |"


if __name__ == "__main__":
    main()

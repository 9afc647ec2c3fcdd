"""What stochastic rounding costs beside rounding to the nearest, and how far its mean is from what was rounded.

    python benchmarks/rounding.py --out benchmarks/records/DATE_rounding_HARDWARE [--threads 1] [--rounds 61]

In every round each format rounds the same tensor both ways, in an order drawn anew; the ratio is to the nearest of the same round, its median
with an interval of order statistics over rounds. The bias: a row of values, each drawn 62,500 times (a million draws together); the
difference of the mean from the value in standard errors, of the worst of the values and of all together.
"""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path
from typing import Any

import torch
from _numbers import about, cell, keep, spread
from torch import Tensor

from netweight import formats, native, provenance

FORMATS = ("nvfp4", "nvfp4 transformed", "nvfp4-2d", "mxfp4", "int8-sym-tensor", "int8-sym-channel", "int4-sym-g32", "e4m3-tensor", "e5m2-tensor")  # fmt: skip
AT_LEAST = 1e-2  # seconds of one timing
EACH, DRAWS = 16, 62_500


def tensors() -> dict[str, Tensor]:
    """What a training step rounds: features of a convolution, of a linear layer, and a weight; blocks along dimension 1."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(8, 64, 64, 64, generator=generator).to(memory_format=torch.channels_last)
    return {
        "features (8, 64, 64, 64), channels last": features,
        "tokens (4096, 256)": torch.randn(4096, 256, generator=generator),
        "weight (256, 512)": torch.randn(256, 512, generator=generator),
    }


def rounded(x: Tensor, format: str, rounding: Any, seed: int, out: Tensor | None = None) -> Tensor:
    name, *turned = format.split()
    axis = (0, 1) if name == "nvfp4-2d" else 1
    signs = formats.TRANSFORMER_ENGINE_SIGNS if turned else None
    return formats.round_blocks(x, name, axis=axis, rounding=rounding, seed=seed, signs=signs, out=out)


def costs(x: Tensor, rounds: int) -> dict[str, Any]:
    """By format: the ratio, and nanoseconds per element to the nearest."""
    out, draw = torch.empty_like(x), random.Random(0)
    turns = [(format, rounding) for format in FORMATS for rounding in ("nearest", "stochastic")]
    times: dict[tuple[str, str], list[float]] = {turn: [] for turn in turns}
    calls = {}
    for turn in turns:
        begun = time.perf_counter()
        rounded(x, *turn, 0, out)
        rounded(x, *turn, 0, out)
        calls[turn] = 1 + int(2 * AT_LEAST / (time.perf_counter() - begun))
    for number in range(rounds):
        draw.shuffle(turns)
        for turn in turns:
            begun = time.perf_counter()
            for _ in range(calls[turn]):
                rounded(x, *turn, number, out)
            times[turn].append((time.perf_counter() - begun) / calls[turn])
    return {
        format: {
            "ratio": spread(
                [s / n for n, s in zip(times[format, "nearest"], times[format, "stochastic"], strict=True)]
            ),
            "nearest_ns": spread([1e9 * n / x.numel() for n in times[format, "nearest"]]),
        }
        for format in FORMATS
    }


def bias(format: str) -> dict[str, float]:
    """Standard errors between the mean of draws and the value: of the worst value, and of all together."""
    name = format.split()[0]
    row = torch.linspace(-0.8, 0.93, EACH)
    row[0] = -1.0 if name.startswith("int") else 1.0  # the end of the range, which is not drawn
    kind = formats.get(name)
    wide = EACH if kind.group <= 0 else kind.group
    x = row.repeat(DRAWS, max(1, wide // EACH))
    got = rounded(x, name, "stochastic", seed=23).double()[:, 1:EACH]
    low, high = got.min(0).values, got.max(0).values
    if not bool(((got == low) | (got == high)).all()):
        raise RuntimeError(f"{format}: a draw is neither neighbour")
    p = ((row[1:].double() - low) / (high - low).clamp(min=1e-30)).clamp(0, 1)
    error = (high - low) * (p * (1 - p) / DRAWS).sqrt()
    off = got.mean(0) - row[1:].double()
    drawn = error > 0
    return {
        "worst": float((off[drawn].abs() / error[drawn]).max()),
        "together": float(off[drawn].sum().abs() / (error[drawn] ** 2).sum().sqrt()),
        "values": int(drawn.sum()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=61)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    native.set_threads(given.threads)
    settings = {"rounds": given.rounds, "threads": given.threads, "instructions": native.isa()}
    found = {name: costs(x, given.rounds) for name, x in tensors().items()}
    off = {format: bias(format) for format in FORMATS if " " not in format}
    environment = provenance.environment(threads=given.threads)
    record = {"settings": settings, "environment": environment, "costs": found, "bias": off}
    keep(given.out, record, page(settings, environment, found, off))


def page(
    settings: dict[str, Any], environment: dict[str, Any], found: dict[str, Any], off: dict[str, Any]
) -> list[str]:
    """The record as two tables."""
    return [
        f"# {(__doc__ or '').splitlines()[0]}",
        "",
        f"Medians with 95 % intervals. {about(settings, environment)}",
        "",
        f"| stochastic over nearest | {' | '.join(FORMATS)} |",
        "|---" * (1 + len(FORMATS)) + "|",
        *(
            f"| {name} | {' | '.join(cell(row[format]['ratio']) for format in FORMATS)} |"
            for name, row in found.items()
        ),
        "",
        f"| ns per element, nearest | {' | '.join(FORMATS)} |",
        "|---" * (1 + len(FORMATS)) + "|",
        *(
            f"| {name} | {' | '.join(cell(row[format]['nearest_ns']) for format in FORMATS)} |"
            for name, row in found.items()
        ),
        "",
        "| a million draws | values drawn | worst of them, standard errors | together |",
        "|---|---|---|---|",
        *(f"| {name} | {row['values']} | {row['worst']:.2f} | {row['together']:.2f} |" for name, row in off.items()),
    ]


if __name__ == "__main__":
    main()

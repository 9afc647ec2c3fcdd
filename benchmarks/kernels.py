"""Packed kernels beside this machine's own read speed, and beside torch's, interleaved in one process.

    python benchmarks/kernels.py --out benchmarks/records/DATE_kernels_HARDWARE [--threads 1]

Every contestant cycles through copies of its weights that together are larger than the last cache, so that a decode step reads
memory, as it does in a model. Each round measures every contestant once, in random order, and a plain read of as many bytes right
after it; a share is the median of paired quotients, with the interval of its order statistics. One thread is timed by its own CPU
time, which a busy neighbour does not lengthen except through memory; more threads by the wall clock. Weights are random: speed is
compared at like bits, not at like quality.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import platform
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from netweight import formats, provenance
from netweight.evaluate import median_interval
from netweight.runtime import kernels
from netweight.runtime.kernels import _library

DECODE = (
    "int4-g64",
    "int4-sym-g64",
    "int3-g64",
    "int2-g64",
    "mxfp4",
    "nvfp4",
    "ternary-g64",
    "int8-g64",
    "int4-g32-s8",
    "int2-g16-s6",
)
PREFILL = ("int4-g64", "int3-g64", "int2-g64", "mxfp4", "nvfp4", "int8-g64")
COLD_BYTES = 400 << 20
HOT_COPIES = 2


@dataclass
class Contestant:
    """One way to multiply: ``run(i)`` uses the i-th copy of its weights."""

    name: str
    bytes: int
    copies: int
    run: Callable[[int], object]
    seconds: list[float] = field(default_factory=list)
    read: list[float] = field(default_factory=list)  # of a plain read of as many bytes, right after


def packed(name: str, outputs: int, inputs: int, rows: int) -> Contestant:
    distinct = min(outputs, 256)
    weight = torch.randn(distinct, inputs, generator=torch.Generator().manual_seed(0)) * 0.05
    q = formats.quantize(weight.repeat(outputs // distinct, 1), formats.get(name))
    first = kernels.pack(formats.pack(q), q.format, q.shape)
    copies = HOT_COPIES if rows > 8 else max(HOT_COPIES, COLD_BYTES // first.data.numel())
    held = [first.data] + [first.data.clone() for _ in range(copies - 1)]
    zero = None if first.row_zero is None else first.row_zero.data_ptr()
    numbers = first.spec.numbers
    matrices = [ctypes.pointer(_library.Matrix(*numbers, d.data_ptr(), first.row_scale.data_ptr(), zero)) for d in held]
    x, y, library = torch.randn(rows, inputs), torch.empty(rows, outputs), _library.library()
    keep = (held, first)

    def run(i: int) -> object:
        library.nw_linear(matrices[i], x.data_ptr(), rows, inputs, None, y.data_ptr(), outputs, 0)
        return keep

    return Contestant(f"netweight {name}", first.data.numel(), copies, run)


def torch_linear(dtype: torch.dtype, outputs: int, inputs: int, rows: int) -> Contestant:
    size = outputs * inputs * dtype.itemsize
    copies = HOT_COPIES if rows > 8 else max(HOT_COPIES, COLD_BYTES // size)
    held = [torch.randn(outputs, inputs).to(dtype) for _ in range(copies)]
    x = torch.randn(rows, inputs).to(dtype)
    return Contestant(
        f"torch {str(dtype).removeprefix('torch.')}", size, copies, lambda i: torch.nn.functional.linear(x, held[i])
    )


def torch_int4(group: int, outputs: int, inputs: int, rows: int) -> Contestant:
    size = outputs * inputs // 2 + outputs * (inputs // group) * 4
    copies = HOT_COPIES if rows > 8 else max(HOT_COPIES, COLD_BYTES // size)
    codes = torch.randint(0, 16, (outputs, inputs), dtype=torch.int32)
    first = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes, 1)
    held = [first.clone() for _ in range(copies)]
    scales = torch.rand(inputs // group, outputs, 2).to(torch.bfloat16)
    x = torch.randn(rows, inputs).to(torch.bfloat16)
    multiply = torch.ops.aten._weight_int4pack_mm_for_cpu
    return Contestant(f"torch int4pack g{group}", size, copies, lambda i: multiply(x, held[i], group, scales))


def measure(contestants: list[Contestant], rounds: int, threads: int) -> None:
    clock = time.thread_time if threads == 1 else time.perf_counter
    buffer, library = torch.zeros(COLD_BYTES, dtype=torch.uint8), _library.library()
    at = 0
    for number in range(rounds + 2):
        for contestant in random.sample(contestants, len(contestants)):
            begun = clock()
            contestant.run(number % contestant.copies)
            seconds = clock() - begun
            size = min(contestant.bytes, COLD_BYTES)
            at = 0 if at + size > COLD_BYTES else at
            begun = clock()
            library.nw_read(buffer.data_ptr() + at, size, 1)
            read = (clock() - begun) * contestant.bytes / size
            at += size
            if number >= 2:
                contestant.seconds.append(seconds)
                contestant.read.append(read)


def row(contestant: Contestant, operations: float, baseline: Contestant) -> dict[str, Any]:
    seconds, read = np.array(contestant.seconds), np.array(contestant.read)
    found = {
        "name": contestant.name,
        "bytes": contestant.bytes,
        "microseconds": spread(seconds * 1e6),
        "share_of_plain_read": spread(read / seconds),
        "gops": spread(operations / seconds / 1e9),
        "times_slower_than_the_first": spread(seconds / np.array(baseline.seconds)),
    }
    return found


def spread(values: np.ndarray) -> dict[str, Any]:
    interval = median_interval(values, items="rounds")
    return {"median": float(np.median(values)), "low": interval.low, "high": interval.high, "n": len(values)}


def peak_gops() -> float:
    """int8 products in registers on one thread, the best of some runs."""
    best = 0.0
    for _ in range(10):
        begun = time.thread_time()
        done = _library.library().nw_multiply(1_000_000)
        best = max(best, done / (time.thread_time() - begun) / 1e9)
    return best


def table(rows: list[dict[str, Any]], keys: tuple[str, ...]) -> str:
    lines = ["| | " + " | ".join(key.replace("_", " ") for key in keys) + " |", "|---" * (len(keys) + 1) + "|"]
    for found in rows:
        cells = [f"{found[k]['median']:.3g} [{found[k]['low']:.3g}, {found[k]['high']:.3g}]" for k in keys]
        lines.append(f"| {found['name']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--shape", type=int, nargs=2, default=(4096, 4096), metavar=("OUTPUTS", "INPUTS"))
    parser.add_argument("--isa", help="force an instruction set")
    given = parser.parse_args()
    random.seed(0)
    if given.isa:
        kernels.set_isa(given.isa)
    torch.set_num_threads(given.threads)
    kernels.set_threads(given.threads)
    outputs, inputs = given.shape
    peak = peak_gops()
    record: dict[str, Any] = {
        "machine": provenance.cpu_model(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "isa": kernels.isa(),
        "threads": given.threads,
        "shape": [outputs, inputs],
        "clock": "CPU time of the thread" if given.threads == 1 else "wall",
        "int8_peak_gops_one_thread": peak,
    }
    page = [
        f"# Kernels, {outputs} x {inputs}, {given.threads} threads, {kernels.isa()}\n",
        f"{record['machine']}; int8 peak {peak:.0f} GOPS.\n",
    ]
    for rows, names in ((1, DECODE), (4, DECODE[:4]), (128, PREFILL)):
        contestants = [packed(name, outputs, inputs, rows) for name in names]
        contestants += [torch_int4(64, outputs, inputs, rows), torch_linear(torch.bfloat16, outputs, inputs, rows)]
        contestants += [torch_linear(torch.float32, outputs, inputs, rows)]
        measure(contestants, given.rounds if rows <= 8 else given.rounds // 4, given.threads)
        found = [row(c, 2.0 * rows * outputs * inputs, contestants[0]) for c in contestants]
        record[f"rows_{rows}"] = found
        keys = (
            ("microseconds", "share_of_plain_read", "times_slower_than_the_first")
            if rows <= 8
            else ("microseconds", "gops", "times_slower_than_the_first")
        )
        page += [f"\n## {rows} rows of x\n", table(found, keys)]
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "results.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    (given.out / "README.md").write_text("\n".join(page) + "\n", encoding="utf-8")
    print((given.out / "README.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()

"""Packed kernels beside this machine's own read speed, and beside torch's, interleaved in one process.

    python benchmarks/products.py --out benchmarks/records/DATE_kernels_HARDWARE [--threads 1] \\
        [--python llama.cpp=PYTHON] [--python others=PYTHON]

Rivals run where the interpreter of an environment that holds them is given (benchmarks/README.md tells how to make one):
llama.cpp's products, and ONNX Runtime's, OpenVINO's and bitsandbytes'. Each is a process of its own that waits for its turn.
Every contestant cycles through copies of its weights that together are larger than the last cache, so that a decode step
reads memory, as it does in a model. Each round measures every contestant once, in random order, after one unmeasured run, and
a plain read of as many bytes right after it; a share is the median of paired quotients, with the interval of its order
statistics. The share of the int8 peak is taken in the same way, of dot products of bytes in registers. One thread is timed by
its own CPU time, which a busy neighbour does not lengthen except through memory; more threads by the wall clock. Weights are
random: speed is compared at like bits, not at like quality, with 4 bits (int4-g64) where a rival has none of ours.
"""

from __future__ import annotations

import argparse
import ctypes
import platform
import random
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _numbers import cell, keep, spread

from netweight import formats, provenance
from netweight.runtime import kernels
from netweight.runtime.kernels import _library

PEERS = Path(__file__).parent / "peers"
sys.path.insert(0, str(PEERS))
from _serve import COLD_BYTES, Asked, Task, seconds_of  # noqa: E402

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
LLAMA = ("q4_0", "q4_K", "q3_K", "q2_K", "mxfp4", "nvfp4")
OURS = "netweight "
LIKE = {
    "q3_K": "int3-g64",
    "q2_K": "int2-g64",
    "mxfp4": "mxfp4",
    "nvfp4": "nvfp4",
}  # what a rival's name holds; 4 bits else
FEWEST = 9  # rounds that an interval of the median needs
OTHERS = (("onnxruntime", "g64"), ("openvino", "g64"), ("bitsandbytes", "nf4"))


class Contestant(ABC):
    """One way to multiply, in this process or another."""

    def __init__(self, name: str, nbytes: int) -> None:
        self.name, self.bytes = name, nbytes
        self.seconds: list[float] = []
        self.read: list[float] = []  # of a plain read of as many bytes, right after
        self.peak: list[float] = []  # int8 GOPS of one thread in registers, right after

    @abstractmethod
    def timed(self, number: int) -> float:
        """Seconds of one product."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the weights."""


class Here(Contestant):
    """``run(i)`` multiplies with the i-th copy of the weights."""

    def __init__(self, name: str, nbytes: int, task: Task, run: Callable[[int], object]) -> None:
        super().__init__(name, nbytes)
        self._task, self._run = task, run

    def timed(self, number: int) -> float:
        return seconds_of(self._run, number, self._task.copies(self.bytes), self._task.threads)

    def close(self) -> None:
        del self._run


class Elsewhere(Contestant):
    """A script of benchmarks/peers under the interpreter of its environment."""

    def __init__(self, python: str, script: str, task: Task) -> None:
        command = [python, str(PEERS / f"kernels_{script}.py"), task.variant]
        for key in ("outputs", "inputs", "rows", "threads"):
            command += [f"--{key}", str(getattr(task, key))]
        self._asked = Asked(command, task.threads)
        super().__init__(self._asked.about["name"], self._asked.about["bytes"])

    def timed(self, number: int) -> float:
        return self._asked(str(number))

    def close(self) -> None:
        self._asked.close()


def packed(name: str, task: Task) -> Contestant:
    distinct = min(task.outputs, 256)
    weight = torch.randn(distinct, task.inputs, generator=torch.Generator().manual_seed(0)) * 0.05
    q = formats.quantize(weight.repeat(task.outputs // distinct, 1), formats.get(name))
    first = kernels.pack(formats.pack(q), q.format, q.shape)
    held = [first.data] + [first.data.clone() for _ in range(task.copies(first.data.numel()) - 1)]
    zero = None if first.row_zero is None else first.row_zero.data_ptr()
    numbers = first.spec.numbers
    matrices = [ctypes.pointer(_library.Matrix(*numbers, d.data_ptr(), first.row_scale.data_ptr(), zero)) for d in held]
    x, y, library = torch.randn(task.rows, task.inputs), torch.empty(task.rows, task.outputs), _library.library()
    keep = (held, first)

    def run(i: int) -> object:
        library.nw_linear(matrices[i], x.data_ptr(), task.rows, task.inputs, None, y.data_ptr(), task.outputs, 0)
        return keep

    return Here(f"{OURS}{name}", first.data.numel(), task, run)


def torch_linear(dtype: torch.dtype, task: Task) -> Contestant:
    size = task.outputs * task.inputs * dtype.itemsize
    held = [torch.randn(task.outputs, task.inputs).to(dtype) for _ in range(task.copies(size))]
    x = torch.randn(task.rows, task.inputs).to(dtype)
    name = f"torch {str(dtype).removeprefix('torch.')}"
    return Here(name, size, task, lambda i: torch.nn.functional.linear(x, held[i]))


def torch_int4(group: int, task: Task) -> Contestant:
    groups = task.inputs // group
    size = task.outputs * task.inputs // 2 + task.outputs * groups * 4
    codes = torch.randint(0, 16, (task.outputs, task.inputs), dtype=torch.int32)
    first = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes, 1)
    held = [first.clone() for _ in range(task.copies(size))]
    scales = torch.rand(groups, task.outputs, 2).to(torch.bfloat16)
    x = torch.randn(task.rows, task.inputs).to(torch.bfloat16)
    multiply = torch.ops.aten._weight_int4pack_mm_for_cpu
    return Here(f"torch int4pack g{group}", size, task, lambda i: multiply(x, held[i], group, scales))


def measure(contestants: list[Contestant], rounds: int, threads: int) -> None:
    clock = time.thread_time if threads == 1 else time.perf_counter
    buffer, library = torch.zeros(COLD_BYTES, dtype=torch.uint8), _library.library()
    at = 0
    for number in range(rounds + 2):
        for contestant in random.sample(contestants, len(contestants)):
            seconds = contestant.timed(number)
            size = min(contestant.bytes, COLD_BYTES)
            at = 0 if at + size > COLD_BYTES else at
            begun = clock()
            library.nw_read(buffer.data_ptr() + at, size, 1)
            read = (clock() - begun) * contestant.bytes / size
            at += size
            if number >= 2:
                contestant.seconds.append(seconds)
                contestant.read.append(read)
                contestant.peak.append(peak_gops())


def like(name: str, ours: list[Contestant]) -> Contestant | None:
    """The packed kernel of like bits; none for our own."""
    if name.startswith(OURS):
        return None
    wanted = next((format for bits, format in LIKE.items() if bits in name), "int4-g64")
    return next((one for one in ours if one.name == OURS + wanted), None)


def row(contestant: Contestant, operations: float, other: Contestant | None, threads: int) -> dict[str, Any]:
    seconds, read, peak = np.array(contestant.seconds), np.array(contestant.read), np.array(contestant.peak)
    return {
        "name": contestant.name,
        "bytes": contestant.bytes,
        "microseconds": spread(seconds * 1e6),
        "share_of_plain_read": spread(read / seconds),
        "gops": spread(operations / seconds / 1e9),
        "share_of_int8_peak": spread(operations / seconds / 1e9 / peak / threads),
        "times_netweight's": spread(seconds / np.array(other.seconds)) | {"format": other.name} if other else None,
    }


def peak_gops() -> float:
    """int8 products in registers on one thread, without tile instructions."""
    begun = time.thread_time()
    done = _library.library().nw_multiply(100_000)
    return done / (time.thread_time() - begun) / 1e9


def table(rows: list[dict[str, Any]], keys: tuple[str, ...]) -> str:
    lines = ["| | " + " | ".join(key.replace("_", " ") for key in keys) + " |", "|---" * (len(keys) + 1) + "|"]
    for found in rows:
        cells = [cell(found[key]) if found[key] else "" for key in keys]
        lines.append(f"| {found['name']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--shape", type=int, nargs=2, default=(4096, 4096), metavar=("OUTPUTS", "INPUTS"))
    parser.add_argument("--isa", help="force an instruction set")
    parser.add_argument("--python", action="append", default=[], metavar="WHO=PYTHON", help="llama.cpp or others")
    given = parser.parse_args()
    pythons = dict(item.partition("=")[::2] for item in given.python)
    random.seed(0)
    if given.isa:
        kernels.set_isa(given.isa)
    torch.set_num_threads(given.threads)
    kernels.set_threads(given.threads)
    outputs, inputs = given.shape
    record: dict[str, Any] = {
        "machine": provenance.cpu_model(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "isa": kernels.isa(),
        "threads": given.threads,
        "shape": [outputs, inputs],
        "clock": "CPU time of the thread" if given.threads == 1 else "wall",
    }
    page = [
        f"# Kernels, {outputs} x {inputs}, {given.threads} threads, {kernels.isa()}\n",
        f"{record['machine']}.\n",
    ]
    for rows, names, llama in ((1, DECODE, LLAMA), (4, DECODE[:4], LLAMA[:1]), (128, PREFILL, LLAMA[:2])):
        at = Task("", outputs, inputs, rows, given.threads)
        contestants = [packed(name, at) for name in names]
        contestants += [torch_int4(64, at), torch_linear(torch.bfloat16, at), torch_linear(torch.float32, at)]
        if "llama.cpp" in pythons:
            contestants += [Elsewhere(pythons["llama.cpp"], "ggml", replace(at, variant=name)) for name in llama]
        if "others" in pythons:
            contestants += [Elsewhere(pythons["others"], script, replace(at, variant=name)) for script, name in OTHERS]
        measure(contestants, given.rounds if rows <= 8 else max(given.rounds // 4, FEWEST), given.threads)
        for contestant in contestants:
            contestant.close()
        found = [row(c, 2.0 * rows * outputs * inputs, like(c.name, contestants), given.threads) for c in contestants]
        record[f"rows_{rows}"] = found
        keys = (
            ("microseconds", "share_of_plain_read", "times_netweight's")
            if rows <= 8
            else ("microseconds", "gops", "share_of_int8_peak", "times_netweight's")
        )
        page += [f"\n## {rows} rows of x\n", table(found, keys)]
    keep(given.out, record, page)


if __name__ == "__main__":
    main()

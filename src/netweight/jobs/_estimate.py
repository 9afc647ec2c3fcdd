"""What a compression will take, told before it starts: time, peak memory, disk."""

from __future__ import annotations

import shutil
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from netweight.compress import Plan, parts
from netweight.errors import ResourceError
from netweight.ledger import Ledger
from netweight.models import Layer, Model
from netweight.recipe import Recipe

FLOAT_BYTES = 4
PASSES = 2.3  # forward passes per block: stage by stage as far as each stage, and once through
COLUMN_S = 2.5e-4  # Python and kernel-launch time of one column of a column-by-column method


@dataclass(frozen=True)
class Estimate:
    """Seconds from a measured matrix product on this machine; bytes from the shapes."""

    seconds: float
    peak_bytes: int
    disk_bytes: int
    flops: float
    flops_per_s: float


@dataclass(frozen=True)
class DryRun:
    """What ``compress`` would do: the ledger as planned, sizes, time and memory expected, and what is wrong with the recipe."""

    ledger: Ledger
    estimate: Estimate
    bytes_before: int
    bytes_after: int
    problems: tuple[str, ...]


def estimate(
    model: Model, plan: Plan, layers: Mapping[str, Layer], recipe: Recipe, threads: int, memory: str
) -> Estimate:
    """Expected cost of following a recipe with this many threads."""
    tokens = recipe.calibration.samples * recipe.calibration.length if plan.needs_data else 64
    by_block: dict[str | None, int] = defaultdict(int)
    forward, moments, columns = 0.0, 0.0, 0
    for name, layer in layers.items():
        weights = layer.shape[0] * layer.shape[1]
        by_block[layer.block] += weights
        step = plan.assignments[name].rounding
        if layer.block is not None:
            forward += 2.0 * weights * tokens
        if step is not None and step.plugin.STATS != "none":
            moments += 2.0 * layer.shape[1] ** 2 * tokens / 2  # layers that read one tensor share its statistics
            columns += layer.shape[1]
    speed = measured_flops_per_s() * threads
    flops = forward * (PASSES if memory == "lean" else 1.1) + moments
    largest = max(by_block.values(), default=0)
    width = max((layer.shape[1] for layer in layers.values()), default=0)
    hidden = tokens * min((layer.shape[1] for layer in layers.values()), default=0) * FLOAT_BYTES
    in_work = threads * 2 * width**2 * 8 * 4
    peak = resident_bytes() + largest * FLOAT_BYTES * 3 + 2 * hidden + in_work
    if memory == "ample":  # what a halted pass holds: the widest input, the residual, and what will be added to it
        peak += tokens * width * FLOAT_BYTES + 2 * hidden
    after = sum(row.bytes_after for row in plan.ledger({}))
    other = sum(shape_bytes(model, n) for n in model.weights.names())
    seconds = flops / speed + columns * COLUMN_S / threads + len(parts(model)) * 0.2
    return Estimate(seconds, int(peak), int(2 * (after + other / 4) + hidden), flops, speed)


def shape_bytes(model: Model, name: str) -> int:
    total = 1
    for size in model.weights.shape(name):
        total *= size
    return total


def require(expected: Estimate, out: Path) -> None:
    """Raises: ResourceError: this machine has less memory, or the disk less space, than the work will take."""
    free = available_bytes()
    if free is not None and expected.peak_bytes - resident_bytes() > free:
        raise ResourceError(
            f"about {expected.peak_bytes / 1e9:.1f} GB of memory are needed and {free / 1e9:.1f} GB are free; "
            "use fewer or shorter calibration samples, or fewer threads"
        )
    folder = out.absolute()
    while not folder.exists():
        folder = folder.parent
    space = shutil.disk_usage(folder).free
    if expected.disk_bytes > space:
        raise ResourceError(
            f"about {expected.disk_bytes / 1e9:.2f} GB of disk are needed at {folder}, {space / 1e9:.2f} GB are free"
        )


def available_bytes() -> int | None:
    """Memory that can still be had; None where the system does not say."""
    return _proc_kilobytes("/proc/meminfo", "MemAvailable:")


def resident_bytes() -> int:
    """Memory this process holds now."""
    return _proc_kilobytes("/proc/self/status", "VmRSS:") or 0


def peak_bytes() -> int:
    """The most this process has held."""
    return _proc_kilobytes("/proc/self/status", "VmHWM:") or 0


def _proc_kilobytes(path: str, key: str) -> int | None:
    try:
        for line in Path(path).read_text().splitlines():
            if line.startswith(key):
                return int(line.split()[1]) * 1024
    except OSError:
        return None
    return None


def measured_flops_per_s(size: int = 768, repetitions: int = 3) -> float:
    """Speed of one thread at a float32 matrix product of this size; the best of a few."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        a = torch.ones(size, size)
        times = []
        for _ in range(repetitions + 1):
            begun = time.perf_counter()
            torch.mm(a, a)
            times.append(time.perf_counter() - begun)
        return 2.0 * size**3 / min(times)
    finally:
        torch.set_num_threads(before)

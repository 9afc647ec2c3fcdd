"""What a compression will take, told before it starts: time, peak memory, disk."""

from __future__ import annotations

import shutil
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from netweight import artifact, models
from netweight.compress import Assignment, Plan, parts
from netweight.data import Calibration
from netweight.errors import ResourceError
from netweight.ledger import Ledger
from netweight.models import Layer, Model
from netweight.recipe import Recipe, Step

PROBE_TOKENS = 32  # what a model is run on where no step needs data
FLOAT_BYTES = 4
PASSES = {"lean": 2.3, "ample": 1.1}  # forward passes per block: to each stage and once through, or halting at each
COLUMN_S = 2.5e-4  # Python and kernel-launch time of one column of a column-by-column method
ROUND_S = 8e-8  # round, pack, decode and hash one weight on one thread (25 to 75 ns measured, by format); read it back
STEP_S = 4e-8  # compute one weight from what is trained, its gradient back, and the optimizer's step
PART_S = 0.2  # files of one part
COPIES = 3  # of a part's weights at once: as filled, as handed out, as bytes on their way to the disk
TRAINED = 8  # copies of a trained weight: itself, its gradients, Adam's two moments, the best so far, rounded
LOGITS = 6  # tensors as large as the logits alive at once on the way back from a loss on them
TAPE = 12  # tensors as wide as a block's widest that one pass keeps for its way back
MAKINGS = 3  # times what a plain module's innermost modules give: their outputs, what is between them, gradients
ACTIVATIONS = 4  # tensors as wide as a block's widest that are alive at once in a forward pass


@dataclass(frozen=True)
class Work:
    """What calibration asks for: positions (tokens, pixels) in all, and in the largest batch."""

    positions: int
    batch: int
    kept: int = 0  # numbers that the largest batch leaves in one block of a plain module, where that was seen
    most: int = 0  # of these in one tensor


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


def work(model: Model, plan: Plan, recipe: Recipe, given: Calibration | None, *, batch_tokens: int) -> Work:
    """Positions the model will be run on: of the caller's batches, of the recipe's text, or of the probe."""
    if given is not None and given.batches:
        sizes = [_positions(batch) for batch in given.batches]
        kept, most = _seen(model, given.batches[0]) if plan.needs_data else (0, 0)
        largest = max(sizes) / max(sizes[0], 1)
        return Work(sum(sizes), max(sizes), int(kept * largest), int(most * largest))
    if not plan.needs_data:
        return Work(PROBE_TOKENS, PROBE_TOKENS)
    asked = recipe.calibration
    return Work(asked.samples * asked.length, max(batch_tokens, asked.length))


def _seen(model: Model, batch: Any) -> tuple[int, int]:
    """What one pass makes in the block where that is most; nothing is run that would first have to be read."""
    if model.kind != "module" or model.family.blocks or not (model.live or model.named_blocks):
        return 0, 0
    found = models.numbers_kept(model, batch).values()
    return max((total for total, _ in found), default=0), max((most for _, most in found), default=0)


def _positions(batch: Any) -> int:
    """Elements of the first tensor over its channels: the last dimension of (T, C), the second of (N, C, ...)."""
    first = models.first_tensor(batch)
    if not first.is_floating_point() or first.dim() < 2:
        return first.numel()
    return first.numel() // max(first.shape[1 if first.dim() > 3 else -1], 1)


def estimate(
    model: Model, plan: Plan, layers: Mapping[str, Layer], bytes_after: int, threads: int, memory: str, asked: Work
) -> Estimate:
    """Expected cost of following a plan with this many threads.

    Args:
      bytes_after: size of the artifact's weights.
      asked: what the model is run on.
    """
    own = {name: layer for name, layer in layers.items() if not layer.tied_to}
    flops, alone_s = 0.0, 0.0
    for name, layer in own.items():
        assignment = plan.assignments[name]
        outputs, inputs = layer.shape
        if layer.block is not None:
            flops += 2.0 * outputs * inputs * asked.positions * (PASSES[memory] if plan.needs_data else 1)
        if assignment.rounding is None:
            continue
        for number, step in enumerate(steps := _steps(assignment)):
            if any(step is other for other in steps[:number]):
                continue
            if hasattr(step.plugin, "steps"):
                batches = max(1, asked.positions // asked.batch)
                taken = step.plugin.steps(step.settings, batches)
                flops += 6.0 * outputs * inputs * taken * min(batches, getattr(step.settings, "batch", 1)) * asked.batch
                alone_s += taken * outputs * inputs * STEP_S
            tried = step.plugin.roundings(step.settings) if hasattr(step.plugin, "roundings") else 1
            alone_s += tried * outputs * inputs * ROUND_S
            if step.plugin.STATS == "moments":
                # 2 n I^2, halved: layers that read one tensor share its statistics
                flops += inputs**2 * asked.positions
                flops += 2.0 * tried * outputs * inputs**2
                alone_s += inputs * COLUMN_S
    speed = measured_flops_per_s() * threads
    hidden = asked.positions * _width(model, own) * FLOAT_BYTES * (2 if plan.trains else 1)
    files = 3 if memory == "lean" else 2  # with outputs of two parts while one is replaced, and the next part's inputs
    peak = resident_bytes() + max(
        _part_bytes(plan, own, threads, memory, asked)
        + (1 if memory == "lean" else 2) * hidden,  # at first all are in memory
        hidden + 2 * asked.batch * _vocabulary(model) * FLOAT_BYTES,
        2 * min(bytes_after, artifact.SHARD_BYTES),
        _whole_bytes(plan, own, _vocabulary(model), threads, asked) + hidden,
    )
    seconds = flops / speed + alone_s / threads + len(parts(model)) * PART_S
    return Estimate(seconds, int(peak), 2 * bytes_after + files * hidden, flops, speed)


def _steps(assignment: Assignment) -> list[Step]:
    return [*assignment.rescaling, *(step for step in (assignment.rounding, assignment.tuning) if step)]


def _whole_bytes(plan: Plan, layers: Mapping[str, Layer], vocabulary: int, threads: int, asked: Work) -> int:
    """Memory of tuning: all weights as they are, as computed and as each thread's gradients, and each thread's logits."""
    if not plan.tuning:
        return 0
    weights = sum(outputs * inputs for outputs, inputs in (layer.shape for layer in layers.values()))
    return FLOAT_BYTES * (weights * (3 + threads) + threads * LOGITS * asked.batch * vocabulary)


def _part_bytes(plan: Plan, layers: Mapping[str, Layer], threads: int, memory: str, asked: Work) -> int:
    """Memory of the largest part: its weights, what runs through it, and what rounding its largest layers takes."""
    weights: dict[str | None, int] = defaultdict(int)
    trained: dict[str | None, int] = defaultdict(int)
    widest, rounding = 0, [0]
    for name, layer in layers.items():
        outputs, inputs = layer.shape
        weights[layer.block] += outputs * inputs * FLOAT_BYTES
        step = plan.assignments[name].rounding
        if layer.block is not None:
            widest = max(widest, outputs, inputs)
        if step is not None and step.plugin.STATS == "block":
            trained[layer.block] += outputs * inputs * FLOAT_BYTES
        elif step is not None and step.plugin.STATS != "none":  # in float64: five matrices like the weight, four like H
            rounding.append(8 * (5 * outputs * inputs + 4 * inputs**2))
        elif step is not None:
            rounding.append(FLOAT_BYTES * 4 * outputs * inputs)
    running = threads * ACTIVATIONS * (asked.most or asked.batch * widest) * FLOAT_BYTES
    if memory == "ample" and plan.needs_data:  # what every halted pass holds: the widest input, and two residuals
        running = max(running, 3 * asked.positions * widest * FLOAT_BYTES) if not asked.most else running
    training = max((TRAINED * size + threads * weights[block] for block, size in trained.items()), default=0)
    if trained:  # the largest block; every thread holds what a pass needs for its way back
        tape = MAKINGS * asked.kept or TAPE * asked.batch * widest
        running = max(running, threads * tape * FLOAT_BYTES)
    return COPIES * max(weights.values(), default=0) + running + threads * max(rounding) + training


def _width(model: Model, layers: Mapping[str, Layer]) -> int:
    """Channels of the state between parts; a plain module has none to keep."""
    if not model.family.blocks:
        return 0
    return int(getattr(model.config, "hidden_size", 0)) or max(layer.shape[0] for layer in layers.values())


def _vocabulary(model: Model) -> int:
    return int(getattr(model.config, "vocab_size", 0)) if model.kind == "causal-lm" else 0


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
            f"about {expected.disk_bytes / 1e9:.2f} GB of disk are needed at {folder}, and {space / 1e9:.2f} GB are free; "
            "free some space, or write to another disk"
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

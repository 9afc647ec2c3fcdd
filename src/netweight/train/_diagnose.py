"""What rounding does to each operand of each layer: how much becomes zero, how much is cut off, how far values move."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from netweight import formats
from netweight.train._layers import ATTRIBUTE
from netweight.train._qat import Operand
from netweight.train._quantize import Quantized


@dataclass(frozen=True)
class Diagnosis:
    """One operand of one layer, over everything that was run. Shares are of ``count`` values that were not 0.

    ``flushed``: became 0 (underflow). ``saturated``: lay beyond the largest value their block then had. ``error``: root of the
    squared error over the squared values. With a transform all three are counted where values are rounded, after it.
    """

    layer: str
    role: str
    count: int
    flushed: float
    saturated: float
    error: float


def diagnose(quantized: Quantized, run: Callable[[], object]) -> tuple[Diagnosis, ...]:
    """What rounding does while ``run`` runs the module, forward and, for the gradients' operands, backward.

    Layers with learned scales are not looked at. ``run`` computes what it would compute anyway.
    """
    sums: dict[tuple[str, str], Tensor] = {}

    def observe(layer: str, role: str, before: Tensor, after: Tensor, axis: Any, operand: Operand) -> None:
        if operand.hadamard:
            before = turned(before.float(), axis)
            after = formats.round_blocks(before, str(operand.format), axis=axis, rule=operand.rule)
        found = _counts(before.float(), after, axis, str(operand.format))
        sums[layer, role] = sums[layer, role] + found if (layer, role) in sums else found

    with _watching(quantized, observe):
        run()
    return tuple(_diagnosis(layer, role, counts) for (layer, role), counts in sums.items())


@contextmanager
def _watching(quantized: Quantized, observe: Callable[..., None]) -> Iterator[None]:
    roundings = [layer.__dict__[ATTRIBUTE] for layer in quantized.layers().values()]
    calls = [dict(rounding.clock.calls) for rounding in roundings[:1]]
    for rounding in roundings:
        rounding.observer = observe
    try:
        yield
    finally:
        for rounding in roundings:
            rounding.observer = None
        for before, rounding in zip(calls, roundings, strict=False):  # the same draws follow as without it
            rounding.clock.calls = before


def _counts(before: Tensor, after: Tensor, axis: Any, format: str) -> Tensor:
    """Values, flushed, saturated, squared error, squared values; float64."""
    there = before != 0
    end = _largest_of_block(after, axis, format)
    flushed = there & (after == 0)
    saturated = before.abs() > end * (1 + 2**-20)  # above float32's own rounding of the end
    error = ((after - before).double() ** 2).sum()
    return torch.stack(
        [there.sum(), flushed.sum(), (saturated & ~flushed).sum(), error, (before.double() ** 2).sum()]
    ).double()


def _diagnosis(layer: str, role: str, counts: Tensor) -> Diagnosis:
    count, flushed, saturated, error, energy = counts.tolist()
    some = max(count, 1.0)
    return Diagnosis(
        layer, role, int(count), flushed / some, saturated / some, (error / energy) ** 0.5 if energy else 0.0
    )


def _largest_of_block(x: Tensor, axis: Any, format: str) -> Tensor:
    """For each element the largest magnitude of its block."""
    row, magnitude = formats.get(format), x.abs()
    if row.group == -1:
        return magnitude.amax().expand_as(x)
    for one in (axis,) if isinstance(axis, int) else axis:
        magnitude = _spread(magnitude, one, row.group or x.shape[one])
    return magnitude


def _spread(magnitude: Tensor, axis: int, width: int) -> Tensor:
    lines = magnitude.movedim(axis, -1)
    blocks = pad(lines, (0, -lines.shape[-1] % width)).unflatten(-1, (-1, width))
    spread = blocks.amax(-1, keepdim=True).expand_as(blocks).flatten(-2)
    return spread[..., : lines.shape[-1]].movedim(-1, axis)


def turned(x: Tensor, axis: int) -> Tensor:
    """x after the random Hadamard transform of each whole group of 16 along an axis."""
    matrix = torch.ones(1, 1)
    for _ in range(4):
        matrix = torch.kron(torch.tensor([[1.0, 1.0], [1.0, -1.0]]), matrix)
    matrix = (matrix / 4 * torch.tensor(formats.TRANSFORMER_ENGINE_SIGNS)).to(x.device)
    lines = x.movedim(axis, -1)
    whole = lines.shape[-1] // 16 * 16
    there = lines[..., :whole].unflatten(-1, (-1, 16)) @ matrix.T
    return torch.cat([there.flatten(-2), lines[..., whole:]], -1).movedim(-1, axis)

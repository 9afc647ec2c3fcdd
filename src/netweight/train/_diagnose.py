"""What rounding does to each operand of each layer: how much becomes zero, how much is cut off, how far values move."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from netweight import formats
from netweight.train._layers import ATTRIBUTE
from netweight.train._quantize import Quantized


@dataclass(frozen=True)
class Diagnosis:
    """One operand of one layer, over everything that was run. Shares are of ``count`` values that were not 0.

    ``flushed``: became 0 (underflow). ``saturated``: lay beyond the largest value that their block's scale could give. ``error``: root
    of the squared error over the squared values. All three are of the very draws of that run and, with a transform, counted after it.
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

    def observe(layer: str, role: str, x: Tensor, format: str, how: dict[str, Any]) -> None:
        found = _counts(*formats.look_at_blocks(x, format, **how))
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


def _counts(before: Tensor, after: Tensor, end: Tensor) -> Tensor:
    """Values, flushed, saturated, squared error, squared values; float64."""
    there = before != 0
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

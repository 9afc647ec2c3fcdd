"""How blocks lie in a tensor's memory: any axis of any dense tensor is (outer, length, inner), a pair (outer, rows, mid, length, inner)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from netweight.errors import FormatError


@dataclass(frozen=True)
class Layout:
    """A dense tensor as memory sees it. With one axis, ``rows`` and ``mid`` are 1 and ``row_block`` is 1.

    ``order`` are the tensor's dimensions from the slowest in memory to the fastest.
    """

    order: tuple[int, ...]
    outer: int
    rows: int
    mid: int
    length: int
    inner: int
    row_block: int

    @property
    def sizes(self) -> tuple[int, int, int, int, int]:
        return self.outer, self.rows, self.mid, self.length, self.inner

    def view(self, x: Tensor) -> Tensor:
        """(outer, rows, mid, length, inner), sharing x's memory."""
        return x.permute(self.order).reshape(self.sizes)


def dense(x: Tensor, samples: int) -> Tensor:
    """x itself when its elements fill a piece of memory (and, for several samples, one piece each); else a contiguous copy."""
    order = _order(tuple(x.shape), x.stride())
    wanted = 1
    for d in reversed(order):
        if x.shape[d] != 1 and x.stride(d) != wanted:
            return x.contiguous()
        wanted *= x.shape[d]
    if samples > 1 and order[0] != 0:
        return x.contiguous()
    return x


@lru_cache(4096)
def _order(shape: tuple[int, ...], strides: tuple[int, ...]) -> tuple[int, ...]:
    """Dimensions from the largest stride to the smallest; those of size 1 keep their place among their neighbours."""
    effective = list(strides)
    for d in reversed(range(len(shape))):
        if shape[d] == 1:
            effective[d] = effective[d + 1] * shape[d + 1] if d + 1 < len(shape) else 1
    return tuple(sorted(range(len(shape)), key=lambda d: (-effective[d], d)))


@lru_cache(4096)
def layout(
    shape: tuple[int, ...], strides: tuple[int, ...], axis: int | tuple[int, int], row_block: int, samples: int
) -> Layout:
    """The layout of a dense tensor whose blocks lie along ``axis`` (two axes when ``row_block`` is above 1).

    Raises:
      FormatError: no such axis, one where two are needed, or blocks that reach over samples.
    """
    axes = _axes(axis, len(shape), row_block)
    if samples < 1 or shape[0] % samples:
        raise FormatError(f"samples = {samples} does not divide the {shape[0]} slices of the first dimension")
    if samples > 1 and 0 in axes:
        raise FormatError(f"samples = {samples}: blocks along dimension 0 reach over samples; use samples=1")
    order = _order(shape, strides)
    sizes = [shape[d] for d in order]
    places = sorted(order.index(d) for d in axes)
    first, last = places[0], places[-1]
    inner = math.prod(sizes[last + 1 :])
    if row_block == 1:
        return Layout(order, math.prod(sizes[:last]), 1, 1, sizes[last], inner, 1)
    between = math.prod(sizes[first + 1 : last])
    return Layout(order, math.prod(sizes[:first]), sizes[first], between, sizes[last], inner, row_block)


def _axes(axis: int | tuple[int, int], dimensions: int, row_block: int) -> tuple[int, ...]:
    given = (axis,) if isinstance(axis, int) else tuple(axis)
    if len(given) != (1 if row_block == 1 else 2):
        needs = "one axis" if row_block == 1 else "two axes, such as (0, 1)"
        raise FormatError(f"axis = {axis}: blocks of this format lie along {needs}")
    if any(not -dimensions <= a < dimensions for a in given):
        raise FormatError(f"axis = {axis}: the tensor has {dimensions} dimensions, {-dimensions} … {dimensions - 1}")
    axes = tuple(a % dimensions for a in given)
    if len(set(axes)) != len(axes):
        raise FormatError(f"axis = {axis}: the two axes are the same")
    return axes


def empty_beside(x: Tensor) -> Tensor:
    """A tensor like x, with its strides."""
    return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=x.device)

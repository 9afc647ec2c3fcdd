"""Paired tests by enumeration and by definition."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any


def swap_p(a: Sequence[Any], b: Sequence[Any], statistic: Callable[[list[Any]], float]) -> float:
    """Share of the 2^n swaps whose difference is at least as large as the observed one (up to 1e-12 of rounding)."""
    observed = abs(statistic(list(a)) - statistic(list(b)))
    extreme = 0
    for swaps in itertools.product((False, True), repeat=len(a)):
        left = [y if swap else x for x, y, swap in zip(a, b, swaps, strict=True)]
        right = [x if swap else y for x, y, swap in zip(a, b, swaps, strict=True)]
        extreme += abs(statistic(left) - statistic(right)) >= observed - 1e-12
    return extreme / 2 ** len(a)


def mcnemar_p(won: int, lost: int) -> float:
    """Two-sided exact binomial(won + lost, 1/2): twice the smaller tail, at most 1."""
    n = won + lost
    tail = sum(math.comb(n, i) for i in range(min(won, lost) + 1)) / 2**n
    return min(1.0, 2 * tail)


def holm_rejections(p_values: Sequence[float], alpha: float) -> list[bool]:
    """Holm's procedure as published: reject from the smallest on until p > alpha / (m - rank)."""
    rejected = [False] * len(p_values)
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if p_values[index] > alpha / (len(p_values) - rank):
            break
        rejected[index] = True
    return rejected

"""BCa written as the formulas read (Efron 1987), one resample at a time, with the standard library's normal distribution."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import Any

NORMAL = NormalDist()


def bca_bounds(
    items: Sequence[Any], statistic: Callable[[list[Any]], float], resamples: Sequence[Sequence[int]], level: float
) -> tuple[float, float]:
    """Bounds of the statistic of ``items`` from given resamples of item numbers."""
    value = statistic(list(items))
    replicates = sorted(statistic([items[i] for i in resample]) for resample in resamples)
    below = sum(1.0 if r < value else 0.5 if r == value else 0.0 for r in replicates) / len(replicates)
    z0 = NORMAL.inv_cdf(below)
    jackknife = [statistic([x for j, x in enumerate(items) if j != i]) for i in range(len(items))]
    mean = sum(jackknife) / len(jackknife)
    cubes = sum((mean - j) ** 3 for j in jackknife)
    squares = sum((mean - j) ** 2 for j in jackknife)
    acceleration = cubes / (6 * squares**1.5)
    bounds = []
    for tail in ((1 - level) / 2, (1 + level) / 2):
        shifted = z0 + NORMAL.inv_cdf(tail)
        bounds.append(quantile(replicates, NORMAL.cdf(z0 + shifted / (1 - acceleration * shifted))))
    return bounds[0], bounds[1]


def quantile(ordered: Sequence[float], share: float) -> float:
    """Linear interpolation between order statistics at (n - 1) * share."""
    at = share * (len(ordered) - 1)
    low = math.floor(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (at - low) * (ordered[high] - ordered[low])


def median_coverage(n: int, k: int) -> float:
    """P(k-th smallest < median < k-th largest of n continuous values), by counting: the binomial(n, 1/2) between k and n - k."""
    return sum(math.comb(n, i) for i in range(k, n - k + 1)) / 2**n

"""A statistic of items with its bootstrap interval, for those who have items and no claim to make of them."""

from __future__ import annotations

import numpy as np

from netweight.evaluate._samples import Random
from netweight.evaluate._statistics import Interval, bca, resamples_of


def bootstrap(sample: Random, *, seed: int = 0, resamples: int = 2000) -> Interval:
    """BCa interval of a sample's value over its items; see ``_statistics`` for what few or equal items get."""
    if sample.n < 2:
        return Interval(None, None, f"none: {sample.n} {sample.items}, and an interval needs at least 2")
    rng = np.random.default_rng(seed)
    replicates = np.concatenate([sample.at(part) for part in resamples_of(sample.n, resamples, rng)])
    return bca(sample.value(), replicates, sample.leave_one_out(), items=sample.items)

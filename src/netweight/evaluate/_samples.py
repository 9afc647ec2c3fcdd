"""What a metric hands over: values per independent item, and the statistic that summarises a set of items.

The statistic is vectorised over resamples. Two forms cover everything measured here:

- ``Additive``: a function of sums over items. Perplexity is exp(sum nll / sum tokens), calibration error a function of
  per-bin sums. Numerator and denominator are rows of one item, so they are always resampled together.
- ``Sampled``: a function of the items themselves, such as a rank correlation or a median.

R resamples, N items, K values per item.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from scipy import stats

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class Additive:
    """A statistic of sums over items.

    Attributes:
      values_NK: one row per independent item, float64.
      of_sums: (R, K) sums -> (R,) statistic.
      items: what one row is, in the plural.
      counts: sizes worth recording, such as ``{"tokens": 1804}``.
      binary: rows are (0 or 1, 1) and the statistic is the share of ones; exact binomial methods then apply.
    """

    values_NK: Array
    of_sums: Callable[[Array], Array]
    items: str
    counts: Mapping[str, int] = field(default_factory=dict)
    binary: bool = False

    @property
    def n(self) -> int:
        return len(self.values_NK)

    def value(self) -> float:
        return float(self.of_sums(self.values_NK.sum(0)[None])[0])

    def at(self, indices_RN: Array) -> Array:
        """(R,): the statistic of each resample of item indices."""
        resamples = len(indices_RN)
        flat = indices_RN + self.n * np.arange(resamples)[:, None]
        times_RN = np.bincount(flat.ravel(), minlength=resamples * self.n).reshape(resamples, self.n)
        return self.of_sums(times_RN.astype(np.float64) @ self.values_NK)

    def leave_one_out(self) -> Array:
        """(N,): the statistic without each item in turn."""
        return self.of_sums(self.values_NK.sum(0) - self.values_NK)

    def alone(self) -> Additive:
        """What the interval comes from that is not a comparison's: the same whoever is judged beside it."""
        return self

    def swapped(self, other: Additive, mask_RN: Array) -> Array:
        """(R,): the statistic when items under the mask are taken from ``other``."""
        moved_RK = mask_RN.astype(np.float64) @ (other.values_NK - self.values_NK)
        return self.of_sums(self.values_NK.sum(0) + moved_RK)


@dataclass(frozen=True, eq=False)
class Sampled:
    """A statistic of the items themselves.

    Attributes:
      values_NK: one row per independent item, float64.
      of_samples: (R, N, K) -> (R,) statistic.
      shape: "smooth" allows the BCa interval; a "median" gets order statistics (the jackknife of a median, which
        BCa needs, does not estimate anything).
    """

    values_NK: Array
    of_samples: Callable[[Array], Array]
    items: str
    counts: Mapping[str, int] = field(default_factory=dict)
    shape: Literal["smooth", "median"] = "smooth"
    binary: bool = False

    @property
    def n(self) -> int:
        return len(self.values_NK)

    def value(self) -> float:
        return float(self.of_samples(self.values_NK[None])[0])

    def at(self, indices_RN: Array) -> Array:
        """(R,): the statistic of each resample of item indices."""
        return self.of_samples(self.values_NK[indices_RN])

    def leave_one_out(self) -> Array:
        """(N,): the statistic without each item in turn; memory is bounded by working on rows."""
        base = np.arange(self.n - 1)
        rows = max(1, 1_000_000 // self.n)
        parts = [
            self.at(base + (base >= np.arange(start, min(start + rows, self.n))[:, None]))
            for start in range(0, self.n, rows)
        ]
        return np.concatenate(parts)

    def swapped(self, other: Sampled, mask_RN: Array) -> Array:
        """(R,): the statistic when items under the mask are taken from ``other``."""
        return self.of_samples(np.where(mask_RN[:, :, None].astype(bool), other.values_NK, self.values_NK))


@dataclass(frozen=True)
class Exact:
    """A number without randomness, such as a byte count."""

    amount: int | float


@dataclass(frozen=True)
class Estimated:
    """A number worked out from an assumption, which ``basis`` spells out."""

    amount: float
    basis: str


@dataclass(frozen=True)
class Unavailable:
    """No number, and why."""

    reason: str


Random = Additive | Sampled
Sample = Additive | Sampled | Exact | Estimated | Unavailable


def ratio(sums_RK: Array) -> Array:
    """First sum over second: a mean weighted by the second."""
    return sums_RK[:, 0] / sums_RK[:, 1]


def exp_ratio(sums_RK: Array) -> Array:
    """exp(first sum / second sum): perplexity from (nll, tokens). Beyond float64 it is inf, which a run refuses."""
    with np.errstate(over="ignore"):
        return np.exp(sums_RK[:, 0] / sums_RK[:, 1])


def spearman(samples_RNK: Array) -> Array:
    """Rank correlation of columns 0 and 1, ties sharing their mean rank; NaN where a column is constant."""
    ranks = stats.rankdata(samples_RNK, axis=1)
    ranks -= ranks.mean(1, keepdims=True)
    x, y = ranks[..., 0], ranks[..., 1]
    with np.errstate(invalid="ignore"):
        return (x * y).sum(1) / np.sqrt((x * x).sum(1) * (y * y).sum(1))


def median(samples_RNK: Array) -> Array:
    """Median of column 0."""
    return np.median(samples_RNK[..., 0], axis=1)


def proportion(hits_N: Array, items: str, counts: Mapping[str, int] | None = None) -> Additive:
    """The share of items that are right, from 0/1 values."""
    hits_N = np.asarray(hits_N, dtype=np.float64)
    return Additive(np.stack([hits_N, np.ones_like(hits_N)], 1), ratio, items, counts or {}, binary=True)

"""Average precision and areas under ROC-like curves of pooled pixels: exact with ties, and on a grid of scores for resampling.

With scores s of positives and negatives, and F(s) the share of negatives at or above s:

- average precision: sum over the positives' distinct scores, from the top, of (recall gained) * precision, ties counted as one step;
- area under a curve "weight of positives found, against F" up to F = limit, straight lines between distinct scores. It is a sum
  over positives: one whose score takes F from a to b gives limit - (a + b) / 2 while b <= limit. Weights of 1 give the ROC
  curve; weights of 1 / (size of the pixel's region) give the per-region overlap curve.

Sources: ROC with ties, T. Fawcett, Pattern Recognition Letters 27 (2006), section 7; per-region overlap, P. Bergmann et al.,
"The MVTec Anomaly Detection Dataset", IJCV 129 (2021), section 5.2 (there at chosen thresholds, here at every distinct score).

A resample cannot sort all pixels again. It works on counts in bins of score, at most ``BINS``. The edges are quantiles of a
subject's own scores, so that no bin holds more than 1/500 of its positives, nor much of any small false-positive rate; for a comparison
they are those of all subjects together, and a bin may hold 1/200. On such a grid the exact value is missed by little (average
precision by less than that times how much precision moves); the value itself is exact, and replicates are moved by the
difference.

R resamples, B bins (ascending scores).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from netweight.errors import DataError
from netweight.evaluate._samples import Additive, Array

BINS = 1024
QUANTILES = 512  # of a subject's positives, and as many of its negatives


def average_precision(scores: Array, labels: Array) -> float:
    """Area under the precision-recall curve as a step function, exact with ties.

    Args:
      scores: numbers of any shape, larger where a positive is likelier; float32 is sorted as it is.
      labels: bool of the same shape.
    Raises:
      DataError: shapes differ, a score is NaN, or there is no positive.
    """
    positives, negatives = _apart(scores, labels)
    return precision_area(positives, negatives)


def roc_auc(scores: Array, labels: Array) -> float:
    """Area under the ROC curve, ties counted half. Arguments and errors as ``average_precision``; it needs a negative too."""
    positives, negatives = _apart(scores, labels)
    if not len(negatives):
        raise DataError(f"all {len(positives)} labels are positive: a ROC curve needs a negative")
    return curve_area(positives, np.full(len(positives), 1 / len(positives)), negatives, 1.0)


def _apart(scores: Array, labels: Array) -> tuple[Array, Array]:
    scores, labels = np.asarray(scores), np.asarray(labels)
    if scores.shape != labels.shape or labels.dtype != bool:
        raise DataError(
            f"scores of shape {scores.shape}, {labels.dtype} labels of {labels.shape}; need bool of one shape"
        )
    if np.isnan(scores).any():
        raise DataError("a score is NaN: it has no place in a ranking")
    if not labels.any():
        raise DataError(f"none of {labels.size} labels is positive: precision and recall have no value")
    return np.sort(scores[labels]), np.sort(scores[~labels])


def precision_area(positives: Array, negatives: Array) -> float:
    """Average precision of two sorted arrays of scores."""
    distinct, gained = np.unique(positives, return_counts=True)
    found = len(positives) - np.concatenate([[0], np.cumsum(gained)[:-1]])  # at or above each
    false = len(negatives) - np.searchsorted(negatives, distinct, "left")
    return float(np.sum(gained * (found / (found + false))) / len(positives))


def curve_area(positives: Array, weights: Array, negatives: Array, limit: float) -> float:
    """Area under "weight of positives found" against the share of negatives, up to ``limit``, divided by it.

    Args:
      positives: scores, in any order, and the ``weights`` of each, which sum to 1.
      negatives: sorted scores, at least one.
    """
    n = len(negatives)
    before = (n - np.searchsorted(negatives, positives, "right")) / n
    after = (n - np.searchsorted(negatives, positives, "left")) / n
    return float(np.sum(weights * _held(before, after, limit)) / limit)


def _held(before: Array, after: Array, limit: float) -> Array:
    """Area under a ramp that rises from 0 to 1 between two rates and stays there, up to the limit."""
    width = np.maximum(after - before, np.finfo(float).tiny)
    cut = np.square(np.maximum(limit - before, 0)) / (2 * width)
    return np.where(after <= limit, limit - (before + after) / 2, np.where(before < limit, cut, 0.0))


def recall_within(positives: Array, negatives: Array, rate: float) -> float:
    """Largest recall of a threshold at which at most this share of the negatives is false; both arrays sorted."""
    allowed = math.floor(rate * len(negatives) * (1 + 1e-12))
    if allowed >= len(negatives):
        return 1.0
    threshold = negatives[len(negatives) - 1 - allowed]  # scores must lie above it
    return float((len(positives) - np.searchsorted(positives, threshold, "right")) / len(positives))


# on a grid


def quantiles(positives: Array, negatives: Array) -> Array:
    """Scores between which a subject's sorted pixels change from found to missed, and its false positives accumulate."""
    chosen = [positives[np.linspace(0, len(positives) - 1, QUANTILES).astype(int)]] if len(positives) else []
    if len(negatives):
        ranks = np.unique(np.geomspace(1, len(negatives), QUANTILES).astype(int))
        chosen.append(negatives[len(negatives) - ranks])
    return np.concatenate(chosen)


def edges(quantiles_of_each: Sequence[Array]) -> Array:
    """At most ``BINS`` - 1 increasing scores, a bin's lowest; the same for all subjects, so that they can be swapped."""
    distinct = np.unique(np.concatenate(quantiles_of_each))
    if len(distinct) < BINS:
        return distinct
    return distinct[np.linspace(0, len(distinct) - 1, BINS - 1).astype(int)]


def binned(values: Array, edges: Array, weights: Array | None = None) -> Array:
    """(B,) how many of the sorted values lie in each bin, or the sum of their weights."""
    at = np.searchsorted(values, edges, "left")
    sums = at if weights is None else np.concatenate([[0.0], np.cumsum(weights)])[at]
    return np.diff(sums, prepend=0, append=len(values) if weights is None else weights.sum()).astype(np.float64)


def precision_area_of(sums_RK: Array) -> Array:
    """(R,) average precision from K = 2 B counts, of positives and of negatives; NaN without positives."""
    gained, false = (np.split(sums_RK, 2, axis=1)[i][:, ::-1] for i in (0, 1))
    found, false = gained.cumsum(1), false.cumsum(1)
    with np.errstate(invalid="ignore"):
        precision = np.where(found > 0, found / (found + false), 0.0)
        return (gained * precision).sum(1) / found[:, -1]


def curve_area_of(sums_RK: Array, limit: float) -> Array:
    """(R,) area from K = 2 B + 1 sums: weights of positives, counts of negatives, and what the weights sum to."""
    bins = sums_RK.shape[1] // 2
    after = sums_RK[:, bins : 2 * bins][:, ::-1].cumsum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        after /= after[:, -1:]
        before = np.concatenate([np.zeros((len(after), 1)), after[:, :-1]], 1)
        return (sums_RK[:, :bins][:, ::-1] * _held(before, after, limit)).sum(1) / limit / sums_RK[:, -1]


def recall_within_of(sums_RK: Array, rate: float) -> Array:
    """(R,) recall at a rate of false positives from K = 2 B counts, linear within a bin; NaN without positives."""
    found, false = (np.split(sums_RK, 2, axis=1)[i][:, ::-1].cumsum(1) for i in (0, 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        x, y = (np.pad(curve / curve[:, -1:], ((0, 0), (1, 0))) for curve in (false, found))
        return np.array([np.interp(rate, *curve) for curve in zip(x, y, strict=True)])


@dataclass(frozen=True, eq=False)
class Gridded(Additive):
    """A statistic from 0 to 1 of counts on a grid whose exact value is known: all on the grid is moved by the difference, but not out of 0 to 1.

    ``own``: the same on a grid that depends on nobody else, where this one is shared with those it is compared with.
    """

    exact: float = math.nan
    own: Gridded | None = None

    def alone(self) -> Additive:
        return self.own or self

    @property
    def shift(self) -> float:
        return self.exact - super().value()

    def value(self) -> float:
        return self.exact

    def at(self, indices_RN: Array) -> Array:
        """(R,): the statistic of each resample of item indices."""
        return np.clip(super().at(indices_RN) + self.shift, 0, 1)

    def leave_one_out(self) -> Array:
        """(N,): the statistic without each item in turn."""
        return np.clip(super().leave_one_out() + self.shift, 0, 1)

    def swapped(self, other: Additive, mask_RN: Array) -> Array:
        """(R,): the statistic when items under the mask are from ``other``; so is that share of what moves it."""
        if not isinstance(other, Gridded):
            return super().swapped(other, mask_RN)
        moved = super().swapped(other, mask_RN) + self.shift + mask_RN.mean(1) * (other.shift - self.shift)
        return np.clip(moved, 0, 1)

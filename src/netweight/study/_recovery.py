"""What a study finds: paired differences over seeds, the share of lost quality that came back, and how many seeds would settle it.

For one setting of the other axes and one measure, with d_i the difference between a value of the compared axis and the baseline for seed i, and
g_i what the baseline lost against the original: the mean of d with its t interval; an exact sign-flip test (all 2^n signs); Holm's correction
over all comparisons of the study; and the recovered share mean(d) / mean(g) with Fieller's interval, which is all shares r for
which mean(d - r g) is not told from 0. Sources: E. Fieller, J. R. Statist. Soc. B 16 (1954); S. Holm, Scand. J. Statist. 6 (1979);
R. Fisher, The Design of Experiments (1935), for the test.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

LEVEL = 0.95
MOST_SEEDS = 10_000
MOST_EXACT = 16  # numbers whose signs are all gone through
DRAWS = 99_999


@dataclass(frozen=True)
class Recovery:
    """One value of the compared axis against the baseline. Differences are signed so that positive is better.

    ``share`` and its bounds are None where the baseline lost nothing; a bound alone is None where the data do not bound it.
    """

    setting: str
    value: str
    measure: str
    n: int
    baseline: float
    other: float
    original: float
    difference: float
    low: float | None
    high: float | None
    p_value: float | None
    adjusted_p: float | None
    share: float | None
    share_low: float | None
    share_high: float | None
    seeds_to_settle: int | None
    verdict: str = ""


def recovery(
    setting: str,
    value: str,
    measure: str,
    baseline_N: Sequence[float],
    other_N: Sequence[float],
    original: float,
    *,
    better: str,
) -> Recovery:
    """From one number per seed, in the same order.

    Args:
      better: "lower" or "higher".
    """
    sign = -1.0 if better == "lower" else 1.0
    base, other = np.asarray(baseline_N, dtype=np.float64), np.asarray(other_N, dtype=np.float64)
    d, g = sign * (other - base), sign * (original - base)
    low, high = _t_interval(d)
    share, share_low, share_high = fieller(d, g)
    return Recovery(
        setting, value, measure, len(d), float(base.mean()), float(other.mean()), original, float(d.mean()),
        low, high, sign_flip(d), None, share, share_low, share_high, seeds_needed(d),
    )  # fmt: skip


def _t_interval(d: np.ndarray) -> tuple[float | None, float | None]:
    if len(d) < 2:
        return None, None
    half = stats.t.ppf(0.5 + LEVEL / 2, len(d) - 1) * d.std(ddof=1) / math.sqrt(len(d))
    return float(d.mean() - half), float(d.mean() + half)


def sign_flip(d: np.ndarray) -> float | None:
    """Two-sided p-value of "d is as often above as below 0": over all signs, of many numbers over random ones; None for fewer than two."""
    if len(d) < 2:
        return None
    observed = abs(d.sum()) * (1 - 1e-12)
    if len(d) <= MOST_EXACT:
        signs = np.array(list(itertools.product((-1.0, 1.0), repeat=len(d))))
        return float((np.abs(signs @ d) >= observed).mean())
    signs = np.random.default_rng(0).choice((-1.0, 1.0), (DRAWS, len(d)))
    return float((1 + (np.abs(signs @ d) >= observed).sum()) / (1 + DRAWS))


def fieller(d: np.ndarray, g: np.ndarray) -> tuple[float | None, float | None, float | None]:
    """mean(d) / mean(g) and the interval of all ratios that the pairs do not speak against."""
    if g.mean() <= 0:
        return None, None, None
    share = float(d.mean() / g.mean())
    n = len(d)
    if n < 2:
        return share, None, None
    t2 = stats.t.ppf(0.5 + LEVEL / 2, n - 1) ** 2 / n
    covariance = np.cov(d, g, ddof=1)
    # (mean d - r mean g)^2 <= t2 var(d - r g), a quadratic in r
    a = g.mean() ** 2 - t2 * covariance[1, 1]
    b = -2 * (d.mean() * g.mean() - t2 * covariance[0, 1])
    c = d.mean() ** 2 - t2 * covariance[0, 0]
    inside = b * b - 4 * a * c
    if a <= 0 or inside < 0:  # what was lost is not told from nothing: any share is possible
        return share, None, None
    root = math.sqrt(inside)
    return share, (-b - root) / (2 * a), (-b + root) / (2 * a)


def seeds_needed(d: np.ndarray) -> int | None:
    """How many seeds would tell a difference of this size and spread from 0; None where the mean is 0 or too small to say."""
    mean, spread = abs(float(d.mean())), float(d.std(ddof=1)) if len(d) > 1 else math.nan
    if not mean or math.isnan(spread):
        return None
    for n in range(2, MOST_SEEDS + 1):
        if stats.t.ppf(0.5 + LEVEL / 2, n - 1) * spread / math.sqrt(n) < mean:
            return n
    return None


def settled(rows: Sequence[Recovery], published: Mapping[str, Sequence[float]]) -> list[Recovery]:
    """The rows with Holm's correction over all of them, and what they say of the published gain."""
    known = [(row.p_value, index) for index, row in enumerate(rows) if row.p_value is not None]
    adjusted: dict[int, float] = {}
    worst = 0.0
    for rank, (p, index) in enumerate(sorted(known)):
        worst = max(worst, min(1.0, (len(known) - rank) * p))
        adjusted[index] = worst
    return [
        replace(row, adjusted_p=adjusted.get(index), verdict=_verdict(row, published.get(row.value)))
        for index, row in enumerate(rows)
    ]


def _verdict(row: Recovery, published: Sequence[float] | None) -> str:
    """By the interval of the recovered share."""
    if row.share_low is None or row.share_high is None:
        return "unsettled"
    if published is None:
        return "gain" if row.share_low > 0 else "loss" if row.share_high < 0 else "unsettled"
    if row.share_low > 0:
        return "confirmed" if row.share_high >= published[0] else "gain smaller than published"
    return "contradicted" if row.share_high < published[0] else "unsettled"

"""Statistics of n paired differences d, one per seed or fold: intervals, tests, effect size, ratio, and seeds still needed.

Sources: F. Wilcoxon, Biometrics Bulletin 1 (1945), zero differences dropped, equal sizes sharing their mean rank; R. Fisher, The Design
of Experiments (1935), for the sign-flip test; E. Fieller, J. R. Statist. Soc. B 16 (1954), for the interval of a ratio of means;
J. Cohen, Statistical Power Analysis (1988), section 2.3.5, for d_z, whose interval inverts the noncentral t distribution
(G. Cumming and S. Finch, Educational and Psychological Measurement 61 (2001)).

**Overlap.** Folds of one data set train on much the same patients, so their differences are not independent, and Student's test calls one in five
or so of nothing a difference. ``overlap`` is the number of patients that judge over the number that train: the mean of n differences
has a variance of (1 / n + overlap) s^2 then. Source: C. Nadeau and Y. Bengio, Machine Learning 52 (2003). Seeds have none.

**Alike.** Where all n differences are the same (counts of lesions take few values) how much they scatter is not known: no interval, no
test by Student's t, no effect size. The exact tests need no spread.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import cache

import numpy as np
from scipy import optimize, special, stats

LEVEL = 0.95
MOST_SEEDS = 10_000
POWER = 0.8
MOST_EXACT = 16  # numbers whose signs are all gone through
DRAWS = 99_999
KEPT = 40  # bits of a difference below the largest number's first: of 53, so that the mean of a few is exact
NODES = 200  # of the integral over a chi distribution: bounds to four digits


def corrected_p(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's correction over those p-values that there are."""
    from netweight.evaluate import holm  # here, because it brings torch, which the processes of cells may not need

    found = iter(holm([p for p in p_values if p is not None]))
    return [None if p is None else next(found) for p in p_values]


def differences(values_N: np.ndarray, baseline_N: np.ndarray) -> np.ndarray:
    """values - baseline, without the last bits, which rounding made: differences that are equal as numbers are written stay equal."""
    largest = max(float(np.abs(values_N).max(initial=0.0)), float(np.abs(baseline_N).max(initial=0.0)))
    if not largest:
        return values_N - baseline_N
    unit = 2.0 ** (math.frexp(largest)[1] - KEPT)
    return np.rint((values_N - baseline_N) / unit) * unit


def spread_of(d: np.ndarray) -> float | None:
    """Standard deviation; None for fewer than two differences, or where all are alike up to rounding."""
    spread = float(d.std(ddof=1)) if len(d) > 1 else 0.0
    return spread if spread > 1e-12 * float(np.abs(d).max(initial=0.0)) else None


def t_interval(d: np.ndarray, overlap: float = 0.0) -> tuple[float | None, float | None]:
    """Student's interval of the mean; None where the spread is not known."""
    spread = spread_of(d)
    if spread is None:
        return None, None
    half = stats.t.ppf(0.5 + LEVEL / 2, len(d) - 1) * spread * math.sqrt(1 / len(d) + overlap)
    return float(d.mean() - half), float(d.mean() + half)


def t_test(d: np.ndarray, overlap: float = 0.0) -> float | None:
    """Two-sided p-value of Student's test of a mean of 0; None where the spread is not known."""
    spread = spread_of(d)
    return None if spread is None else _t_p(len(d), float(d.mean()), spread, overlap)


def t_test_of(n: int, mean: float, low: float | None, high: float | None) -> float | None:
    """The same from the mean and Student's interval, of differences without overlap."""
    if low is None or high is None or high <= low:
        return None
    return _t_p(n, mean, deviation_of(n, low, high), 0.0)


def deviation_of(n: int, low: float, high: float) -> float:
    """Standard deviation of n differences, from Student's interval of their mean."""
    return float((high - low) / 2 / stats.t.ppf(0.5 + LEVEL / 2, n - 1) * math.sqrt(n))


def _t_p(n: int, mean: float, spread: float, overlap: float) -> float:
    return float(2 * stats.t.sf(abs(mean) / spread / math.sqrt(1 / n + overlap), n - 1))


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


def wilcoxon(d: np.ndarray) -> float | None:
    """Two-sided p-value of the signed-rank test, exact also with ties; None for fewer than two, 1 where all are 0.

    The distribution over all 2^n signs is built by adding one rank at a time; twice a mean rank is a whole number.
    """
    if len(d) < 2:
        return None
    d = d[d != 0]
    if not len(d):
        return 1.0
    doubled = np.rint(2 * stats.rankdata(np.abs(d))).astype(int)
    shares = np.zeros(doubled.sum() + 1)
    shares[0] = 1.0
    for rank in doubled:
        shares[rank:] = (shares[rank:] + shares[:-rank]) / 2
        shares[:rank] /= 2
    above = int(doubled[d > 0].sum())
    tail = min(above, len(shares) - 1 - above)
    return float(min(1.0, 2 * shares[: tail + 1].sum()))


def effect_size(d: np.ndarray, overlap: float = 0.0) -> tuple[float | None, float | None, float | None]:
    """Cohen's d_z, mean over standard deviation, and its interval; None where the spread is not known."""
    spread = spread_of(d)
    if spread is None:
        return None, None, None
    of_the_mean = math.sqrt(1 / len(d) + overlap)
    t = float(d.mean()) / spread / of_the_mean
    low, high = (_noncentrality(t, len(d) - 1, share) for share in ((1 + LEVEL) / 2, (1 - LEVEL) / 2))
    return t * of_the_mean, low * of_the_mean, high * of_the_mean


def _noncentrality(t: float, freedom: int, share: float) -> float:
    """The noncentrality c at which this share of t statistics lies below the one observed."""
    scales, weights = _scales(freedom)
    reach = 10 + abs(t) * float(scales.max())
    found = optimize.brentq(lambda c: float(weights @ special.ndtr(t * scales - c)) - share, -reach, reach)
    return float(found)  # pyright: ignore[reportArgumentType]


def _below(t: float, freedom: int, c: float) -> float:
    """How often a noncentral t statistic is at most t."""
    scales, weights = _scales(freedom)
    return float(weights @ special.ndtr(t * scales - c))


@cache
def _scales(freedom: int) -> tuple[np.ndarray, np.ndarray]:
    """P(T <= t) = mean of Phi(t s - c) over s = sqrt(chi^2 / freedom): the s and their weights, by Gauss-Legendre over quantiles.

    scipy's own distribution function is NaN for some c.
    """
    x, weights = np.polynomial.legendre.leggauss(NODES)
    return np.sqrt(stats.chi2.ppf((1 + x) / 2, freedom) / freedom), weights / 2


def fieller(d: np.ndarray, g: np.ndarray, overlap: float = 0.0) -> tuple[float | None, float | None, float | None]:
    """mean(d) / mean(g) and the interval of all ratios that the pairs do not speak against; none where every pair has the same."""
    if g.mean() <= 0:
        return None, None, None
    share = float(d.mean() / g.mean())
    n = len(d)
    if n < 2 or spread_of(differences(d, share * g)) is None:
        return share, None, None
    t2 = stats.t.ppf(0.5 + LEVEL / 2, n - 1) ** 2 * (1 / n + overlap)
    covariance = np.cov(d, g, ddof=1)
    # (mean d - r mean g)^2 <= t2 var(d - r g), a quadratic in r
    a = g.mean() ** 2 - t2 * covariance[1, 1]
    b = -2 * (d.mean() * g.mean() - t2 * covariance[0, 1])
    c = d.mean() ** 2 - t2 * covariance[0, 0]
    if a <= 0:  # what was lost is not told from nothing: any share is possible
        return share, None, None
    root = math.sqrt(max(0.0, b * b - 4 * a * c))  # at the ratio of the means the quadratic is not above 0
    return share, (-b - root) / (2 * a), (-b + root) / (2 * a)


def seeds_needed(d: np.ndarray, comparisons: int = 1) -> int | None:
    """How many seeds would tell a difference of this size and spread from 0; None where the spread is not known, the mean 0 or too small to say.

    So many that Student's test at 5 % over the number of comparisons finds it in four studies of five.
    """
    mean, spread = abs(float(d.mean())), spread_of(d)
    return None if spread is None or not mean else seeds_for(mean / spread, comparisons)


def seeds_for(effect: float, comparisons: int = 1, overlap: float = 0.0) -> int | None:
    """As ``seeds_needed``, from the mean over the standard deviation. Source: J. Cohen, Statistical Power Analysis (1988), section 2.4.

    With an overlap no number may do: more folds of the same patients are not more patients.
    """
    level = (1 - LEVEL) / comparisons
    low, high = 1, MOST_SEEDS
    if _power(effect, high, level, overlap) < POWER:
        return None
    while high - low > 1:  # the power rises with the number
        middle = (low + high) // 2
        low, high = (low, middle) if _power(effect, middle, level, overlap) >= POWER else (middle, high)
    return high


def _power(effect: float, n: int, level: float, overlap: float) -> float:
    """How often Student's two-sided test of n differences is below the level."""
    t, c = float(stats.t.ppf(1 - level / 2, n - 1)), effect / math.sqrt(1 / n + overlap)
    return 1 - _below(t, n - 1, c) + _below(-t, n - 1, c)

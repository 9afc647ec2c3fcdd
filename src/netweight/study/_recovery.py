"""What a study finds: paired differences over seeds, the share of lost quality that came back, and how many seeds would settle it.

For one setting of the other axes and one measure, with d_i the difference between a value of the compared axis and the baseline for seed i, and
g_i what the baseline lost against the original: the mean of d with its t interval; Student's test, which decides, and an exact sign-flip test (all
2^n signs) beside it, both after Holm's correction over all comparisons of the study; and the recovered share mean(d) / mean(g) with Fieller's
interval, which is all shares r for which mean(d - r g) is not told from 0. The statistics and their sources are in ``_pairs``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from netweight.study._pairs import (
    LEVEL,
    corrected_p,
    deviation_of,
    differences,
    fieller,
    seeds_for,
    seeds_needed,
    sign_flip,
    t_interval,
    t_test_of,
)


@dataclass(frozen=True)
class Recovery:
    """One value of the compared axis against the baseline. Differences are signed so that positive is better.

    ``p_value`` is the sign-flip test's, ``adjusted_p`` after Holm's correction, ``adjusted_t_p`` Student's after it.
    ``share`` and its bounds are None where the baseline lost nothing; a bound alone is None where the data do not bound it.
    ``published`` is the least and largest share that it was held against.
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
    published: Sequence[float] | None = None
    adjusted_t_p: float | None = None

    @property
    def t_p(self) -> float | None:
        """Two-sided p-value of Student's test; None for fewer than two seeds."""
        return t_test_of(self.n, self.difference, self.low, self.high)


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
    d, g = sign * differences(other, base), sign * differences(np.full_like(base, original), base)
    low, high = t_interval(d)
    share, share_low, share_high = fieller(d, g)
    return Recovery(
        setting, value, measure, len(d), float(base.mean()), float(other.mean()), original, float(d.mean()),
        low, high, sign_flip(d), None, share, share_low, share_high, seeds_needed(d),
    )  # fmt: skip


def settled(
    rows: Sequence[Recovery], published: Mapping[str, Sequence[float]], published_of: str = ""
) -> list[Recovery]:
    """The rows with Holm's correction over all of them, and what they say of the published gain.

    Args:
      published: least and largest share recovered, by "setting value" or, for every setting without figures of its own, by "value".
      published_of: the measure that figures are of; rows of others are held against none. Empty: of every measure.
    """
    adjusted, adjusted_t = (corrected_p([getattr(row, name) for row in rows]) for name in ("p_value", "t_p"))
    count = max(1, sum(row.t_p is not None for row in rows))
    made = []
    for row, p, t_p in zip(rows, adjusted, adjusted_t, strict=True):
        figures = published.get(f"{row.setting} {row.value}", published.get(row.value))
        known = figures if published_of in ("", row.measure) else None
        row = replace(row, adjusted_p=p, adjusted_t_p=t_p, published=known, seeds_to_settle=_to_settle(row, count))
        made.append(replace(row, verdict=_verdict(row, known)))
    return made


def _to_settle(row: Recovery, comparisons: int) -> int | None:
    """For a difference as large and as scattered as this one, among as many comparisons; None if unknown."""
    if row.low is None or row.high is None or not row.difference:
        return None
    return seeds_for(abs(row.difference) / deviation_of(row.n, row.low, row.high), comparisons)


def _verdict(row: Recovery, published: Sequence[float] | None) -> str:
    """Gain or loss by Student's test after Holm's correction, "not after Holm" where only before it; published figures by
    the interval of the share: "confirmed" needs all of it to reach the least that was published."""
    alone, stands = (p is not None and p < 1 - LEVEL for p in (row.t_p, row.adjusted_t_p))
    gain = row.difference > 0
    less = published is not None and row.share_high is not None and row.share_high < published[0]
    if less and not (alone and gain):
        return "contradicted"
    if not alone:
        return "unsettled"
    if not stands:
        return "gain, not after Holm" if gain else "loss, not after Holm"
    if published is None or row.share_low is None:
        return "gain" if gain else "loss"
    if not gain:
        return "loss"
    if less:
        return "gain smaller than published"
    if row.share_low > published[1]:
        return "gain larger than published"
    return "confirmed" if row.share_low >= published[0] else "gain, compatible with what was published"

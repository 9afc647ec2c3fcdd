"""What a study finds: paired differences over seeds, the share of lost quality that came back, and how many seeds would settle it.

For one setting of the other axes and one measure, with d_i the difference between a value of the compared axis and the baseline for seed i, and
g_i what the baseline lost against the original: the mean of d with its t interval; an exact sign-flip test (all 2^n signs); Holm's correction
over all comparisons of the study; and the recovered share mean(d) / mean(g) with Fieller's interval, which is all shares r for
which mean(d - r g) is not told from 0. The statistics and their sources are in ``_pairs``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from netweight.study._pairs import corrected_p, fieller, seeds_needed, sign_flip, t_interval


@dataclass(frozen=True)
class Recovery:
    """One value of the compared axis against the baseline. Differences are signed so that positive is better.

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
    adjusted = corrected_p([row.p_value for row in rows])
    made = []
    for row, p in zip(rows, adjusted, strict=True):
        figures = published.get(f"{row.setting} {row.value}", published.get(row.value))
        known = figures if published_of in ("", row.measure) else None
        made.append(replace(row, adjusted_p=p, verdict=_verdict(row, known), published=known))
    return made


def _verdict(row: Recovery, published: Sequence[float] | None) -> str:
    """By the interval of the recovered share."""
    if row.share_low is None or row.share_high is None:
        return "unsettled"
    if published is None:
        return "gain" if row.share_low > 0 else "loss" if row.share_high < 0 else "unsettled"
    if row.share_low > 0:
        return "confirmed" if row.share_high >= published[0] else "gain smaller than published"
    return "contradicted" if row.share_high < published[0] else "unsettled"

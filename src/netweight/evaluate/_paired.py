"""Two subjects on the same items: difference, interval, p-value, verdict. Pairing is never optional.

Sources: R. Fisher's paired randomisation test (swap the two subjects' results item by item); Q. McNemar,
Psychometrika 12 (1947), in its exact binomial form; S. Holm, Scandinavian Journal of Statistics 6 (1979).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy import stats

from netweight.claim import Comparison
from netweight.errors import SettingsError
from netweight.evaluate._samples import Random
from netweight.evaluate._statistics import ALIKE, CHUNK, Interval, bca, binomial_interval, percentile

Verdict = Literal["non-inferior", "inferior", "undecided"]
Better = Literal["lower", "higher", "neither"]
FEW = 10  # discordant pairs below which a note asks for caution
ENOUGH = 6  # items below which no two-sided paired test can reach p < .05: 2 / 2^5 > .05


def difference_interval(
    subject: Random, reference: Random, subject_R: np.ndarray, reference_R: np.ndarray
) -> tuple[float, Interval]:
    """Subject minus reference in the claim's own unit, from replicates drawn with the same item indices."""
    value = subject.value() - reference.value()
    scale = max(abs(subject.value()), abs(reference.value()))
    if subject.binary and (bound := _all_alike(subject, reference)):
        return value, bound
    if getattr(subject, "shape", "smooth") == "median":
        return value, percentile(value, subject_R - reference_R, n=subject.n, items=subject.items)
    jackknife_N = subject.leave_one_out() - reference.leave_one_out() if subject.n > 1 else np.zeros(subject.n)
    return value, bca(value, subject_R - reference_R, jackknife_N, items=subject.items, scale=scale)


def ratio_interval(
    subject: Random, reference: Random, subject_R: np.ndarray, reference_R: np.ndarray
) -> tuple[float, Interval]:
    """Subject over reference, from replicates drawn with the same item indices; NaN where the reference has 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(np.float64(subject.value()) / reference.value())
        jackknife_N = subject.leave_one_out() / reference.leave_one_out() if subject.n > 1 else np.zeros(subject.n)
        return value, bca(value, subject_R / reference_R, jackknife_N, items=subject.items)


def _all_alike(subject: Random, reference: Random) -> Interval | None:
    """The exact bound where every 0/1 pair differs in the same way, which a bootstrap would give no width.

    With no discordant pair among n the share of discordant pairs, and so the difference, is still only known to be
    below the Clopper-Pearson bound of 0 out of n, in either direction.
    """
    d = subject.values_NK[:, 0] - reference.values_NK[:, 0]
    n = len(d)
    if n < 2 or np.ptp(d) > 0:
        return None
    discordant = binomial_interval(int(np.abs(d).sum()), n, items=subject.items)
    least, most = discordant.low or 0.0, discordant.high or 0.0
    low, high = (-most, most) if d[0] == 0 else sorted((d[0] * least, d[0] * most))
    return Interval(float(low), float(high), f"exact binomial bound on the discordant share of {n} {subject.items}")


def p_value(subject: Random, reference: Random, resamples: int, rng: np.random.Generator) -> tuple[float, str]:
    """Two-sided p-value of "both subjects are the same", and the test's name.

    0/1 items: exact McNemar. Everything else: the two subjects' results are swapped item by item, over all 2^n
    arrangements where that is at most ``resamples``, else over random ones, counting the observed one (so p > 0).
    """
    if subject.binary:
        d = subject.values_NK[:, 0] - reference.values_NK[:, 0]
        won, lost = int((d > 0).sum()), int((d < 0).sum())
        p = float(stats.binomtest(won, won + lost, 0.5).pvalue) if won + lost else 1.0
        return p, f"exact McNemar, {won} won and {lost} lost of {subject.n}"
    return _swap_test(subject, reference, resamples, rng)


def _swap_test(subject: Random, reference: Random, resamples: int, rng: np.random.Generator) -> tuple[float, str]:
    n = subject.n
    observed = abs(subject.value() - reference.value())
    slack = ALIKE * max(abs(subject.value()), abs(reference.value()))
    exact = n < 31 and 2**n <= resamples
    total = 2**n if exact else resamples
    rows = max(1, CHUNK // n)
    extreme = 0
    for start in range(0, total, rows):
        count = min(rows, total - start)
        if exact:
            mask_RN = (np.arange(start, start + count)[:, None] >> np.arange(n)) & 1
        else:
            mask_RN = rng.integers(0, 2, (count, n), dtype=np.int8)
        apart_R = subject.swapped(reference, mask_RN) - reference.swapped(subject, mask_RN)  # pyright: ignore[reportArgumentType]
        # an arrangement without a value counts as extreme
        extreme += int(np.sum(~(np.abs(apart_R) < observed - slack)))
    if exact:
        return extreme / total, f"paired permutation, all {total} swaps"
    return (extreme + 1) / (total + 1), f"paired permutation, {total} random swaps"


def judged(
    n: int, items: str, low: float, high: float, *, margin: float | None, better: Better
) -> tuple[Verdict | None, str]:
    """The verdict, and a note where there are too few items for one: it is then "undecided" whatever the interval."""
    if margin is None:
        return None, ""
    if n < ENOUGH:
        return "undecided", f"{n} {items} are too few for a verdict, {ENOUGH} are not"
    return verdict(low, high, margin, better), ""


def verdict(low: float, high: float, margin: float, better: Better) -> Verdict:
    """Is the subject worse than the reference by more than ``margin``?

    Harm is the difference in the bad direction; for ``better="neither"``, in either. "non-inferior" if the whole interval
    of harm lies below the margin, "inferior" if the whole interval lies beyond it, else "undecided".
    """
    if better == "lower":
        harm_low, harm_high = low, high
    elif better == "higher":
        harm_low, harm_high = -high, -low
    else:
        harm_high = max(abs(low), abs(high))
        harm_low = 0.0 if low <= 0 <= high else min(abs(low), abs(high))
    if harm_high < margin:
        return "non-inferior"
    return "inferior" if harm_low > margin else "undecided"


def compare(
    subject: Random,
    reference: Random,
    replicates: tuple[np.ndarray, np.ndarray],
    *,
    name: str,
    better: Better,
    margin: float | None,
    rng: np.random.Generator,
) -> tuple[Comparison | None, str]:
    """The paired comparison and its note; no comparison where no interval can be given, and the note then says why."""
    value, interval = difference_interval(subject, reference, *replicates)
    if interval.low is None or interval.high is None:
        return None, f"difference from {name} {value:+.6g}, interval {interval.method}"
    p, test = p_value(subject, reference, len(replicates[0]), rng)
    found, too_few = judged(subject.n, subject.items, interval.low, interval.high, margin=margin, better=better)
    notes = [interval.note, _few(subject, reference), too_few]
    comparison = Comparison(
        name, value, interval.low, interval.high, margin, found, p, f"{test}; interval: {interval.method}"
    )
    return comparison, "; ".join(f"difference: {note}" for note in notes if note)


def _few(subject: Random, reference: Random) -> str:
    if not subject.binary:
        return ""
    discordant = int((subject.values_NK[:, 0] != reference.values_NK[:, 0]).sum())
    return f"only {discordant} pairs disagree" if 0 < discordant < FEW else ""


def holm(p_values: Sequence[float]) -> list[float]:
    """Step-down corrected p-values, in the order given: the chance of any false alarm among them stays below alpha.

    The i-th smallest of m (from 0) is multiplied by m - i, made monotone, and capped at 1.

    Raises:
      SettingsError: a p-value is not between 0 and 1.
    """
    for p in p_values:
        if not 0 <= p <= 1:
            raise SettingsError(f"p-value {p!r} is not between 0 and 1")
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    corrected = [0.0] * len(p_values)
    running = 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = running
    return corrected

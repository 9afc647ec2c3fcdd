"""One setting against a baseline on the same seeds or folds: how much better or worse, how sure, and what would settle it.

What is said of a difference is decided by Student's t, after Holm's correction once all comparisons are known (``corrected``). The exact
tests, which assume nothing of the seeds but that they are alike and independent, stand beside it: few seeds cannot give them a small
p-value. So does the bootstrap, which is usually too narrow over so few items (``evaluate._statistics`` says by how much).
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from netweight.errors import DataError
from netweight.study._pairs import (
    LEVEL,
    corrected_p,
    effect_size,
    fieller,
    seeds_for,
    seeds_needed,
    sign_flip,
    t_interval,
    t_test,
    wilcoxon,
)
from netweight.words import counted

WIDTH = 80
Bounds = tuple[float | None, float | None]


@dataclass(frozen=True)
class Paired:
    """Means over n pairs; differences are value minus baseline, ratios value over baseline, in that order of (low, high).

    ``adjusted_*`` are None until ``corrected`` has seen all ``comparisons``, and ``seeds_to_settle`` is for one alone till then. A bound
    is None where the data do not bound it.
    """

    name: str
    baseline: str
    measure: str
    better: Literal["lower", "higher"]
    n: int
    value: float
    baseline_value: float
    difference: float
    interval: Bounds
    bootstrap: Bounds
    ratio: float | None
    ratio_interval: Bounds
    ratio_bootstrap: Bounds
    d_z: float | None
    d_z_interval: Bounds
    wilcoxon_p: float | None
    sign_flip_p: float | None
    seeds_to_settle: int | None
    t_p: float | None
    adjusted_wilcoxon_p: float | None = None
    adjusted_sign_flip_p: float | None = None
    adjusted_t_p: float | None = None
    comparisons: int = 1

    @property
    def more_seeds(self) -> int | None:
        """How many seeds more would tell the difference from none, were it as large and as scattered as these; None if unknown."""
        return None if self.seeds_to_settle is None else max(0, self.seeds_to_settle - self.n)

    @property
    def verdict(self) -> Literal["better", "worse", "not told"]:
        """By Student's t at 5 %, after Holm's correction where all comparisons are known."""
        p = self.t_p if self.adjusted_t_p is None else self.adjusted_t_p
        if p is None or p >= 1 - LEVEL:
            return "not told"
        return "better" if (self.difference > 0) == (self.better == "higher") else "worse"

    def words(self) -> str:
        """What was found, in a paragraph of at most 80 columns."""
        return textwrap.fill(" ".join(part for part in _sentences(self) if part), WIDTH)


def paired(
    name: str,
    values_N: Sequence[float],
    baseline: str,
    baseline_N: Sequence[float],
    *,
    measure: str,
    better: Literal["lower", "higher"] = "higher",
    seed: int = 0,
) -> Paired:
    """From one number per seed or fold, in the same order on both sides.

    Args:
      seed: of the bootstrap.
    Raises:
      DataError: another number of values on each side, none, or one that is not finite.
    """
    from netweight.evaluate import Additive, bootstrap  # here, because it brings torch

    a, b = np.asarray(values_N, dtype=np.float64), np.asarray(baseline_N, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1 or not len(a) or not np.isfinite([a, b]).all():
        raise DataError(
            f"{name} has {a.size} values and {baseline} {b.size}; need equally many finite ones, paired by seed, at least one"
        )
    d = a - b
    ratio, *ratio_interval = fieller(a, b)
    d_z, *d_z_interval = effect_size(d)
    mean = bootstrap(Additive(np.stack([d, np.ones_like(d)], 1), _ratio, "pairs"), seed=seed)
    over = bootstrap(Additive(np.stack([a, b], 1), _ratio, "pairs"), seed=seed) if ratio is not None else None
    return Paired(
        name, baseline, measure, better, len(d), float(a.mean()), float(b.mean()), float(d.mean()), t_interval(d),
        (mean.low, mean.high), ratio, (ratio_interval[0], ratio_interval[1]), (over.low, over.high) if over else (None, None),
        d_z, (d_z_interval[0], d_z_interval[1]), wilcoxon(d), sign_flip(d), seeds_needed(d), t_test(d),
    )  # fmt: skip


def corrected(rows: Sequence[Paired]) -> list[Paired]:
    """The rows with Holm's correction over all of them, for each of the three tests, and the seeds that would settle them so."""
    count = sum(row.t_p is not None for row in rows)
    names = ("wilcoxon_p", "sign_flip_p", "t_p")
    adjusted = zip(*(corrected_p([getattr(row, name) for row in rows]) for name in names), strict=True)
    made = []
    for row, found in zip(rows, adjusted, strict=True):
        by_name = {f"adjusted_{name}": p for name, p in zip(names, found, strict=True)}
        made.append(replace(row, **by_name, comparisons=max(1, count), seeds_to_settle=_to_settle(row, count)))
    return made


def _to_settle(row: Paired, comparisons: int) -> int | None:
    if row.t_p is None or not row.difference:
        return None
    return seeds_for(math.inf if row.d_z is None else abs(row.d_z), comparisons)


def _ratio(sums_RK: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return sums_RK[:, 0] / sums_RK[:, 1]


def _sentences(row: Paired) -> list[str]:
    good = (row.difference > 0) == (row.better == "higher")
    how = "as good as" if row.difference == 0 else "better than" if good else "worse than"
    told = row.verdict != "not told"
    first = f"On {counted(row.n, 'pair')}, {row.name} has a mean {row.measure} of {row.value:.4g}, {row.baseline} {row.baseline_value:.4g}:"
    if not bounded(row.interval):
        return [
            first,
            f"{row.name} looks {how} {row.baseline} by {abs(row.difference):.3g}, and one pair cannot say how sure that is.",
        ]
    return [
        first,
        f"a difference of {row.difference:+.3g} ({LEVEL:.0%} interval {_span(row.interval, '+.3g')})," + _verdict(row, how, told),
        _ratio_sentence(row),
        _effect_sentence(row),
        _test_sentence(row),
        "" if told else _more_sentence(row),
    ]  # fmt: skip


def _ratio_sentence(row: Paired) -> str:
    if row.ratio is None:
        return ""
    span = (
        f"interval {_span(row.ratio_interval, '.4g')}" if bounded(row.ratio_interval) else "which the data do not bound"
    )
    return f"The ratio of the means is {row.ratio:.4g} ({span})."


def _effect_sentence(row: Paired) -> str:
    if row.d_z is None:
        return ""
    return f"The effect size d_z is {row.d_z:+.2g} ({LEVEL:.0%} interval {_span(row.d_z_interval, '+.2g')})."


def _verdict(row: Paired, how: str, told: bool) -> str:
    alone = row.t_p is not None and row.t_p < 1 - LEVEL
    if alone and not told:
        return f" which looks {how} {row.baseline} by itself, but does not stand among {row.comparisons} comparisons."
    return f" so {row.name} is {how if told else 'not told from'} {row.baseline}."


def _test_sentence(row: Paired) -> str:
    known = row.adjusted_t_p is not None
    t, flip, signed = ((row.adjusted_t_p, row.adjusted_sign_flip_p, row.adjusted_wilcoxon_p) if known else (row.t_p, row.sign_flip_p, row.wilcoxon_p))  # fmt: skip
    after = f", after Holm's correction over {row.comparisons}" if known else ""
    least = min(1.0, row.comparisons * 2 / 2**row.n)
    few = f" {row.n} pairs cannot give the last two less than p = {least:.3g}." if least > 1 - LEVEL else ""
    return f"Student's t p = {t:.3g}, sign-flip test p = {flip:.3g}, signed-rank test p = {signed:.3g}{after}.{few}"


def _more_sentence(row: Paired) -> str:
    if row.more_seeds is None:
        return "No reasonable number of seeds would tell a difference as small as this from none."
    return f"If the difference is as large and as scattered as it looks, {row.more_seeds} more seeds or folds would settle it."


def bounded(bounds: Bounds) -> bool:
    """Are both there?"""
    return bounds[0] is not None and bounds[1] is not None


def _span(bounds: Bounds, style: str) -> str:
    return f"{bounds[0]:{style}} to {bounds[1]:{style}}"

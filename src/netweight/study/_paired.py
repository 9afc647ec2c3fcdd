"""One setting against a baseline on the same seeds or folds: how much better or worse, how sure, and what would settle it.

What is said of a difference is decided by Student's t, after Holm's correction once all comparisons are known (``corrected``). The exact
tests, which assume nothing of the seeds but that they are alike and independent, stand beside it: few seeds cannot give them a small
p-value. So does the bootstrap, which is usually too narrow over so few items (``evaluate._statistics`` says by how much). Where all
differences are alike Student's t has nothing to go by, and the sign-flip test decides.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from netweight.errors import DataError
from netweight.study._pairs import (
    LEVEL,
    corrected_p,
    differences,
    effect_size,
    fieller,
    seeds_for,
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

    ``adjusted_*`` are None until ``corrected`` has seen all ``comparisons``; ``adjusted_t_p`` is that of ``deciding_p``, over one family.
    ``seeds_to_settle`` is for one comparison alone till then. A bound
    is None where the data do not bound it. ``overlap``: patients that judge over patients that train, where pairs are folds (``_pairs``).
    ``missing``: pairs that there should be besides, of which a side failed or has no such number. ``diverged``: pairs in which a training
    diverged, and was judged by the best weights it had, or those it began with.
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
    overlap: float = 0.0
    missing: int = 0
    diverged: int = 0

    @property
    def more_seeds(self) -> int | None:
        """How many seeds more would tell the difference from none, were it as large and as scattered as these; None if unknown."""
        return None if self.seeds_to_settle is None else max(0, self.seeds_to_settle - self.n)

    @property
    def deciding_p(self) -> float | None:
        """Student's t, or the sign-flip test where all differences are alike; None for one pair."""
        return self.sign_flip_p if self.t_p is None else self.t_p

    @property
    def verdict(self) -> Literal["better", "worse", "not told"]:
        """By Student's t at 5 %, or the sign-flip test where all are alike, after Holm's correction where all comparisons are known."""
        p = self.deciding_p if self.adjusted_t_p is None else self.adjusted_t_p
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
    overlap: float = 0.0,
    missing: int = 0,
    diverged: int = 0,
    seed: int = 0,
) -> Paired:
    """From one number per seed or fold, in the same order on both sides.

    Args:
      overlap, missing, diverged: as ``Paired``. seed: of the bootstrap.
    Raises:
      DataError: another number of values on each side, none, or one that is not finite.
    """
    from netweight.evaluate import Additive, bootstrap  # here, because it brings torch

    a, b = np.asarray(values_N, dtype=np.float64), np.asarray(baseline_N, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1 or not len(a) or not np.isfinite([a, b]).all():
        raise DataError(
            f"{name} has {a.size} values and {baseline} {b.size}; need equally many finite ones, paired by seed, at least one"
        )
    d = differences(a, b)
    ratio, *ratio_interval = fieller(a, b, overlap)
    d_z, *d_z_interval = effect_size(d, overlap)
    mean = bootstrap(Additive(np.stack([d, np.ones_like(d)], 1), _ratio, "pairs"), seed=seed)
    over = bootstrap(Additive(np.stack([a, b], 1), _ratio, "pairs"), seed=seed) if ratio is not None else None
    return Paired(
        name, baseline, measure, better, len(d), float(a.mean()), float(b.mean()), float(d.mean()), t_interval(d, overlap),
        (mean.low, mean.high), ratio, (ratio_interval[0], ratio_interval[1]), (over.low, over.high) if over else (None, None),
        d_z, (d_z_interval[0], d_z_interval[1]), wilcoxon(d), sign_flip(d),
        None if d_z is None else _seeds(d_z, 1, overlap), t_test(d, overlap), overlap=overlap,
        missing=missing, diverged=diverged,
    )  # fmt: skip


def corrected(rows: Sequence[Paired]) -> list[Paired]:
    """The rows with Holm's correction over all of them, for each of the three tests, and the seeds that would settle them so."""
    count = sum(row.deciding_p is not None for row in rows)
    families = {"wilcoxon_p": "wilcoxon_p", "sign_flip_p": "sign_flip_p", "t_p": "deciding_p"}
    adjusted = zip(*(corrected_p([getattr(row, name) for row in rows]) for name in families.values()), strict=True)
    made = []
    for row, found in zip(rows, adjusted, strict=True):
        by_name = {f"adjusted_{name}": p for name, p in zip(families, found, strict=True)}
        made.append(replace(row, **by_name, comparisons=max(1, count)))
        if row.d_z is not None:
            made[-1] = replace(made[-1], seeds_to_settle=_seeds(row.d_z, count, row.overlap))
    return made


def _seeds(d_z: float, comparisons: int, overlap: float) -> int | None:
    return seeds_for(abs(d_z), comparisons, overlap) if d_z else None


def _ratio(sums_RK: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return sums_RK[:, 0] / sums_RK[:, 1]


def _sentences(row: Paired) -> list[str]:
    good = (row.difference > 0) == (row.better == "higher")
    how = "as good as" if row.difference == 0 else "better than" if good else "worse than"
    told = row.verdict != "not told"
    first = f"On {counted(row.n, 'pair')}, {row.name} has a mean {row.measure} of {row.value:.4g}, {row.baseline} {row.baseline_value:.4g}:"
    if row.n == 1:
        return [
            first,
            f"{row.name} looks {how} {row.baseline} by {abs(row.difference):.3g}, and one pair cannot say how sure that is.",
            _missing_sentence(row),
        ]
    if not bounded(row.interval):
        return [
            first,
            _alike_sentence(row, how, told),
            _test_sentence(row),
            _missing_sentence(row),
        ]
    return [
        first,
        f"a difference of {row.difference:+.3g} ({LEVEL:.0%} interval {_span(row.interval, '+.3g')})," + _verdict(row, how, told),
        _ratio_sentence(row),
        _effect_sentence(row),
        _test_sentence(row),
        "" if told else _more_sentence(row),
        _missing_sentence(row),
    ]  # fmt: skip


def _ratio_sentence(row: Paired) -> str:
    if row.ratio is None:
        return ""
    span = "which the data do not bound"
    if bounded(row.ratio_interval):
        span = f"interval {_span(row.ratio_interval, '.4g')}"
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
    few = f" {row.n} pairs cannot give the exact tests less than p = {least:.3g}." if least > 1 - LEVEL else ""
    student = "" if row.t_p is None else f"Student's t p = {t:.3g}, "
    folds = (
        " Student's t and the intervals allow for folds that train on the same patients, the others do not."
        if row.overlap
        else ""
    )
    return f"{student}{'s' if student else 'S'}ign-flip test p = {flip:.3g}, signed-rank test p = {signed:.3g}{after}.{few}{folds}"


def _alike_sentence(row: Paired, how: str, told: bool) -> str:
    if row.difference == 0:
        return f"the same in every one of them, so {row.name} is not told from {row.baseline}."
    return (
        f"a difference of {row.difference:+.3g} in every one of them. How much it scatters is not known, so there is no interval, and "
        f"{row.name} is {how if told else 'not told from'} {row.baseline}."
    )


def _missing_sentence(row: Paired) -> str:
    said = []
    if row.diverged:
        said.append(f"In {counted(row.diverged, 'pair')} a training diverged, and counts with the best weights it had.")
    if row.missing:
        why = f"a run failed, or had no {row.measure}, which may well have been the worst"
        said.append(f"{counted(row.missing, 'pair')} missing: {why}.")
    return " ".join(said)


def _more_sentence(row: Paired) -> str:
    if row.more_seeds is None and row.overlap:
        return "No number of folds of the same patients would tell a difference as small as this from none."
    if row.more_seeds is None:
        return "No reasonable number of seeds would tell a difference as small as this from none."
    return f"If the difference is as large and as scattered as it looks, {row.more_seeds} more seeds or folds would settle it."


def bounded(bounds: Bounds) -> bool:
    """Are both there?"""
    return bounds[0] is not None and bounds[1] is not None


def _span(bounds: Bounds, style: str) -> str:
    return f"{bounds[0]:{style}} to {bounds[1]:{style}}"

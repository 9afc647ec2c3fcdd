"""Functional ANOVA: how much of the variance between runs is due to each factor, each interaction, and the seed.

The mean result of a cell (one level of each factor) is a sum of effects f_u, one for each set u of factors, each with mean 0 over
every one of its factors; V_u is the mean square of f_u over the cells of the grid, and the variance between runs is the sum of all V_u and the
mean variance over seeds within a cell. Source: I. Sobol', Mathematics and Computers in Simulation 55 (2001), section 2.

**Noise floor.** The square of an estimated effect holds the seeds' noise as well: with few seeds every factor seems to matter. Here V_u
is the mean over pairs of *different* seeds i, j of mean_cells(f_u from seed i * f_u from seed j). Noise of different seeds is
independent, so this is unbiased (the method of moments), whatever cells of one seed have in common, such as a baseline's run that all
recipes are held against. It can fall below 0 for an effect that is not there; ``variance`` keeps that, shares are cut to 0..1.

**Missing runs.** Two cells are held against each other over the seeds that they have, and cells of one seed are left out. Where a
combination has no cell at all, effects overlap, and each is what it explains after all that do not contain it (type II; ``_components``); shares
are of the sum of the components, which in a whole grid is the variance between runs.

**Intervals** are about other seeds, the grid being given: jackknife over seeds with Student's t. Fewer than 3 seeds give none. At 3
and 5 seeds they hold the truth about 95 % of the time (tests/study/test_anova.py), where a bootstrap of so few seeds is far too narrow. An effect
of which leaving out a seed takes away more than a third, because cells are left with one run, has none: it would be too narrow.
"""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from netweight.errors import DataError
from netweight.study._components import Cells, Component, Effect, components
from netweight.study._table import cells_of

LEVEL = 0.95
WIDTH = 80
SAME = 1e-24  # of the largest square: what float64 leaves of values that are all alike
WHOLE = "mean squares of a complete grid, noise floor removed by pairs of different seeds"
MISSING = "pairs of different seeds that the cells have, each effect after all that do not contain it (type II)"
KEPT = 2 / 3  # of what tells an effect, at least, in the cells that are left without a seed


@dataclass(frozen=True)
class Part:
    """What one effect is due to: the factors it is of, none for the seed; ``low``/``high`` bound the share.

    ``variance`` and ``share`` are None where the cells that there are do not tell the effect from others.
    """

    name: str
    factors: Effect
    variance: float | None
    share: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Anova:
    """Parts from main effects to the last interaction, then the seed; ``share`` is of the variance between runs."""

    value: str
    parts: tuple[Part, ...]
    variance: float
    runs: int
    cells: int
    missing: int  # runs that a complete grid would have besides
    replicates: int
    method: str

    def part(self, *factors: str) -> Part:
        """The part of these factors, in any order; of the seed where there are none."""
        return next(part for part in self.parts if set(part.factors) == set(factors))

    def words(self) -> str:
        """What was found, in a paragraph of at most 80 columns."""
        unit = self.part().name
        ordered = sorted((part for part in self.parts if part.share is not None), key=lambda part: -(part.share or 0.0))
        listed = ", ".join(f"{part.name} {part.share:.0%}{_span(part)}" for part in ordered)
        said = f"Of the variance in {self.value} between {self.runs} runs: {listed}."
        if sum(part.share or 0.0 for part in ordered) > 1.005:
            said += " Estimates below 0 are shown as 0, so that these are more than 100% together."
        said += self._judged([part for part in ordered if part.factors], unit)
        if untold := [part.name for part in self.parts if part.share is None]:
            said += (
                f" The cells that there are do not tell {', '.join(untold)} from other effects: nothing is known of it."
            )
        if self.missing:
            said += f" {self.missing} runs are missing; shares are from {self.method}."
        return textwrap.fill(said, WIDTH)

    def _judged(self, ordered: Sequence[Part], unit: str) -> str:
        """What can be said of the largest effect."""
        if not ordered:
            return ""
        largest, rivals = ordered[0], ordered[1:]
        if self.replicates < 3:
            return f" Fewer than 3 {unit}s give no intervals, so nothing can be said about how sure this is."
        if largest.low is None:
            return f" Too many runs are missing for an interval of {largest.name}, so how sure this is cannot be said."
        if largest.low <= 0:
            return (
                f" {largest.name} looks largest, but is not told from none: {self.replicates} {unit}s do not settle it."
            )
        more = (self.part().share or 0.0) > (largest.share or 0.0)
        noise = f", and less than the {unit}" if more else ""
        if not rivals:
            return f" {largest.name} matters{noise}."
        if all(part.high is not None and part.high < largest.low for part in rivals):
            return f" {largest.name} matters most{' of the factors' if more else ''}{noise}."
        return f" {largest.name} looks largest, but intervals overlap: {self.replicates} {unit}s do not settle it."


def anova(table: Sequence[Mapping[str, Any]], *, factors: Sequence[str], value: str, replicate: str) -> Anova:
    """Shares of the variance of a column, from a table with one row per run.

    Args:
      factors: columns of the grid, such as architecture, scale and recipe; at most 6, each with at least two levels.
      value: the column that varies, such as the quality lost (``lost``); rows without a finite one count as missing.
      replicate: the column that names the seed or fold. The same name in two cells means the same seed.
    Raises:
      DataError: a column is missing, a factor has one level, a run occurs twice, or no seed is repeated: noise is then unknown.
    """
    cells = cells_of(table, (*factors, replicate), value)
    levels = [list(dict.fromkeys(key[i] for key in cells)) for i in range(len(factors) + 1)]
    _check(factors, replicate, levels)
    grid = len(list(itertools.product(*levels)))
    found = components(cells, levels, factors)
    total = _total(found)
    if not total > SAME * max(number**2 for number in cells.values()):
        raise DataError(f"{value} does not vary over {len(cells)} runs: there is nothing to share out")
    bounds = _jackknife(cells, levels, factors, found)
    parts = tuple(
        Part(
            " x ".join(u) or replicate,
            u,
            component.variance,
            _cut(component.variance / total),
            *bounds.get(u, (None, None)),
        )
        if component.known
        else Part(" x ".join(u), u, None, None, None, None)
        for u, component in found.items()
    )
    method = WHOLE if len(cells) == grid else MISSING
    seen = len({key[:-1] for key in cells})
    return Anova(value, parts, total, len(cells), seen, grid - len(cells), len(levels[-1]), method)


def _check(factors: Sequence[str], replicate: str, levels: Sequence[Sequence[str]]) -> None:
    if not 1 <= len(factors) <= 6:
        raise DataError(f"{len(factors)} factors; 1 to 6 can be told apart")
    for name, found in zip(factors, levels, strict=False):
        if len(found) < 2:
            raise DataError(
                f"factor {name!r} has {len(found)} levels ({', '.join(found)}); leave it out or add a level"
            )
    if len(levels[-1]) < 2:
        raise DataError(f"one {replicate} cannot tell an effect from noise; at least 2 are needed, 3 for intervals")


def _jackknife(
    cells: Cells, levels: Sequence[Sequence[str]], factors: Sequence[str], whole: Mapping[Effect, Component]
) -> dict[Effect, tuple[float | None, float | None]]:
    """Bounds of the shares, from leaving out each seed; none for fewer than 3 seeds, where less than that leaves nothing, or too little
    of an effect."""
    seeds = levels[-1]
    if len(seeds) < 3:
        return {}
    left: list[Mapping[Effect, Component]] = []
    for seed in seeds:
        kept = {key: value for key, value in cells.items() if key[-1] != seed}
        try:
            found = components(kept, [*levels[:-1], [s for s in seeds if s != seed]], factors)
        except DataError:
            return {}
        if not _total(found) > 0:
            return {}
        left.append(found)
    n = len(seeds)
    bounds: dict[Effect, tuple[float | None, float | None]] = {}
    for u, component in whole.items():
        if not component.known or any(row[u].unit < KEPT * component.unit for row in left):
            continue
        without = np.array([row[u].variance / _total(row) for row in left])
        error = np.sqrt((n - 1) / n * np.square(without - without.mean()).sum())
        half = float(stats.t.ppf(0.5 + LEVEL / 2, n - 1) * error)
        share = component.variance / _total(whole)
        bounds[u] = (_cut(share - half), _cut(share + half))
    return bounds


def _total(found: Mapping[Effect, Component]) -> float:
    return sum(component.variance for component in found.values() if component.known)


def _cut(share: float) -> float:
    return float(min(1.0, max(0.0, share)))


def _span(part: Part) -> str:
    return "" if part.low is None or part.high is None else f" ({part.low:.0%} to {part.high:.0%})"

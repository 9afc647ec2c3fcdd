"""Functional ANOVA: how much of the variance between runs is due to each factor, each interaction, and the seed.

The mean result of a cell (one level of each factor) is a sum of effects f_u, one for each set u of factors, each with mean 0 over
every one of its factors; V_u is the mean square of f_u over the cells of the grid, and the variance between runs is the sum of all V_u and the
mean variance over seeds within a cell. Source: I. Sobol', Mathematics and Computers in Simulation 55 (2001), section 2.

**Noise floor.** The square of an estimated effect holds the seeds' noise as well: with few seeds every factor seems to matter. Here V_u
is the mean over pairs of *different* seeds i, j of mean_cells(f_u from seed i * f_u from seed j). Noise of different seeds is
independent, so this is unbiased (the method of moments), whatever cells of one seed have in common. It can fall below 0
for an effect that is not there; ``variance`` keeps that, shares are cut to 0..1.

**Missing runs.** Where not every cell has the same seeds there is no such table, and least squares takes its place: the squares that an effect
explains after all effects that do not contain it (type II), less those that noise alone would, over the number of runs. Effects
then overlap, so shares are of the sum of the components; ``method`` says which was used.

**Intervals** are about other seeds, the grid being given: jackknife over seeds with Student's t. Fewer than 3 seeds give none. At 3
and 5 seeds they hold the truth about 95 % of the time (tests/study/test_anova.py), where a bootstrap of so few seeds is far too narrow.
"""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from netweight.errors import DataError
from netweight.study._least_squares import Effect, components, effects
from netweight.study._table import cells_of

LEVEL = 0.95
WIDTH = 80
BALANCED = "mean squares of a complete grid, noise floor removed by pairs of different seeds"
UNBALANCED = "least squares, each effect after all that do not contain it (type II), noise floor removed"
Cells = dict[tuple[str, ...], float]
Shares = dict[Effect, float]


@dataclass(frozen=True)
class Part:
    """What one effect is due to: the factors it is of, none for the seed; ``low``/``high`` bound the share."""

    name: str
    factors: Effect
    variance: float
    share: float
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
        ordered = sorted(self.parts, key=lambda part: -part.share)
        listed = ", ".join(f"{part.name} {part.share:.0%}{_span(part)}" for part in ordered)
        said = f"Of the variance in {self.value} between {self.runs} runs: {listed}."
        largest = next(part for part in ordered if part.factors)
        rivals = [part for part in ordered if part.factors and part is not largest]
        if largest.low is None or largest.high is None:
            said += " Fewer than 3 seeds give no intervals, so nothing can be said about how sure this is."
        elif all(part.high is not None and part.high < largest.low for part in rivals):
            said += f" {largest.name} matters most."
        else:
            said += f" {largest.name} looks largest, but intervals overlap: {self.replicates} seeds do not settle it."
        if self.missing:
            said += f" {self.missing} runs are missing; shares are from {self.method}."
        return textwrap.fill(said, WIDTH)


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
    whole = len(cells) == grid
    estimate = _balanced if whole else components
    found = estimate(cells, levels, factors)
    total = sum(found.values())
    if not total > 0:
        raise DataError(f"{value} does not vary over {len(cells)} runs: there is nothing to share out")
    bounds = _jackknife(cells, levels, factors, estimate)
    parts = tuple(
        Part(" x ".join(u) or replicate, u, variance, _cut(variance / total), *bounds.get(u, (None, None)))
        for u, variance in found.items()
    )
    method = BALANCED if whole else UNBALANCED
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


def _balanced(cells: Cells, levels: Sequence[Sequence[str]], factors: Sequence[str]) -> Shares:
    """Unbiased V_u of every effect, and under () the mean variance over seeds."""
    y = np.array([cells[key] for key in itertools.product(*levels)]).reshape([len(found) for found in levels])
    seeds = y.shape[-1]
    found: Shares = {}
    for u in effects(factors):
        f = y
        for axis, name in enumerate(factors):
            mean = f.mean(axis, keepdims=True)
            f = f - mean if name in u else mean
        found[u] = float((f.sum(-1) ** 2 - (f**2).sum(-1)).mean() / (seeds * (seeds - 1)))
    return found | {(): float(y.var(-1, ddof=1).mean())}


Estimate = Callable[[Cells, Sequence[Sequence[str]], Sequence[str]], Shares]


def _jackknife(
    cells: Cells, levels: Sequence[Sequence[str]], factors: Sequence[str], estimate: Estimate
) -> dict[Effect, tuple[float | None, float | None]]:
    """Bounds of the shares, from leaving out each seed; none for fewer than 3 seeds, or where less than that leaves nothing."""
    seeds = levels[-1]
    if len(seeds) < 3:
        return {}
    left: list[Shares] = []
    for seed in seeds:
        kept = {key: value for key, value in cells.items() if key[-1] != seed}
        try:
            found = estimate(kept, [*levels[:-1], [s for s in seeds if s != seed]], factors)
        except DataError:
            return {}
        total = sum(found.values())
        if not total > 0:
            return {}
        left.append({u: variance / total for u, variance in found.items()})
    whole = estimate(cells, levels, factors)
    total = sum(whole.values())
    n = len(seeds)
    bounds: dict[Effect, tuple[float | None, float | None]] = {}
    for u, variance in whole.items():
        without = np.array([row.get(u, 0.0) for row in left])
        error = np.sqrt((n - 1) / n * np.square(without - without.mean()).sum())
        half = float(stats.t.ppf(0.5 + LEVEL / 2, n - 1) * error)
        bounds[u] = (_cut(variance / total - half), _cut(variance / total + half))
    return bounds


def _cut(share: float) -> float:
    return float(min(1.0, max(0.0, share)))


def _span(part: Part) -> str:
    return "" if part.low is None or part.high is None else f" ({part.low:.0%} to {part.high:.0%})"

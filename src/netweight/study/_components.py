"""Variance components of a grid of runs, whole or not: mean squares of effects, from products of runs of different seeds.

With y_ic the run of cell c and seed i and P_u the projection onto what effect u explains after all effects that do not contain it (type II),
the component of u is sum_cd P_u[c, d] M_cd over what effects that sum to zero and have a mean square of 1 would give, where M_cd is the mean of y_ic y_jd
over different seeds i, j. Noise of different seeds is independent, so M has the expectation mu_c mu_d, whatever runs of one seed have in
common and whichever are missing; in a whole grid the components are the mean squares of the effects. What a seed shifts all its cells
by is taken out first by least squares: nothing of it is left in a whole grid, and elsewhere it would only add scatter.
Sources: F. Yates, Journal of the American Statistical Association 29 (1934), for the method of adjusted squares; C. Henderson, Biometrics 9
(1953), method 3, for what a unit of variance adds to them.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from netweight.errors import DataError

Effect = tuple[str, ...]
Cell = tuple[str, ...]
Cells = Mapping[Cell, float]  # by the levels of the factors and, last, the seed


@dataclass(frozen=True)
class Component:
    """A mean square; ``unit`` is the sum of squares by which the cells tell an effect that has a mean square of 1, 0 where they do not."""

    variance: float
    unit: float

    @property
    def known(self) -> bool:
        return self.unit > 0


def components(cells: Cells, levels: Sequence[Sequence[str]], factors: Sequence[str]) -> dict[Effect, Component]:
    """The component of every effect, and under () the mean variance over seeds within a cell.

    Cells that only one seed has are left out.

    Raises:
      DataError: no cell has two seeds.
    """
    runs: dict[Cell, dict[str, float]] = {}
    for key, value in cells.items():
        runs.setdefault(key[:-1], {})[key[-1]] = value
    runs = {cell: values for cell, values in runs.items() if len(values) > 1}
    if not runs:
        raise DataError(f"no cell was done with two seeds: {len(cells)} runs leave nothing to know the noise from")
    products_CC = _products(runs, levels[-1])
    found: dict[Effect, Component] = {}
    for u, (projection_CC, unit) in _projections(list(runs), levels, factors).items():
        found[u] = Component(float((projection_CC * products_CC).sum()) / unit if unit else 0.0, unit)
    within = float(np.mean([np.var(list(values.values()), ddof=1) for values in runs.values()]))
    return found | {(): Component(within, float(len(runs)))}


def _products(runs: Mapping[Cell, Mapping[str, float]], seeds: Sequence[str]) -> np.ndarray:
    """(C, C) mean products of two cells' runs over different seeds."""
    there_CS = np.array([[float(seed in values) for seed in seeds] for values in runs.values()])
    y_CS = np.array([[values.get(seed, 0.0) for seed in seeds] for values in runs.values()])
    at = np.argwhere(there_CS > 0)
    design = np.concatenate([np.eye(len(runs))[at[:, 0]], np.eye(len(seeds))[at[:, 1]]], 1)
    fit, *_ = np.linalg.lstsq(design, y_CS[at[:, 0], at[:, 1]], rcond=1e-10)
    shifts = fit[len(runs) :]
    y_CS = (y_CS - shifts - fit[: len(runs)].mean()) * there_CS  # the level too, which projections leave nothing of
    same = np.einsum("cs,ds->cd", y_CS, y_CS)
    pairs = np.outer(there_CS.sum(1), there_CS.sum(1)) - there_CS @ there_CS.T
    return (np.outer(y_CS.sum(1), y_CS.sum(1)) - same) / pairs


def effects(factors: Sequence[str]) -> list[Effect]:
    """All sets of factors, by size, without the empty one."""
    return [u for size in range(1, len(factors) + 1) for u in itertools.combinations(factors, size)]


def _projections(
    cells: Sequence[Cell], levels: Sequence[Sequence[str]], factors: Sequence[str]
) -> dict[Effect, tuple[np.ndarray, float]]:
    """For each effect P_u (C, C), and the sum of squares through it of such an effect with a mean square of 1; 0 where nothing tells the effect."""
    named = [_indicators([cell[i] for cell in cells], found) for i, found in enumerate(levels[:-1])]
    codes = [each[:, :-1] - each[:, -1:] for each in named]  # sum to zero: the last level is -1 everywhere
    columns = {u: _product([codes[factors.index(name)] for name in u]) for u in effects(factors)}
    found = {}
    for u, own in columns.items():
        rest = [np.ones((len(cells), 1)), *(columns[v] for v in columns if not set(u) <= set(v))]
        before, after = _span(rest), _span([*rest, own])
        projection = after @ after.T - before @ before.T
        each = _product([named[factors.index(name)] for name in u])
        drawn = np.prod(
            [1 - 1 / len(levels[factors.index(name)]) for name in u]
        )  # left of independent levels, made to sum to zero
        told = after.shape[1] > before.shape[1]
        found[u] = (projection, float(np.trace(each.T @ projection @ each) / drawn) if told else 0.0)
    return found


def _indicators(values: Sequence[str], levels: Sequence[str]) -> np.ndarray:
    """(cells, levels) 1 where a cell has the level."""
    return np.array([[float(value == level) for level in levels] for value in values])


def _product(parts: Sequence[np.ndarray]) -> np.ndarray:
    """(cells, product of columns) all products of one column of each part."""
    made = np.ones((len(parts[0]), 1))
    for part in parts:
        made = (made[:, :, None] * part[:, None, :]).reshape(len(made), -1)
    return made


def _span(parts: Sequence[np.ndarray]) -> np.ndarray:
    """(cells, rank) orthonormal columns."""
    vectors, sizes, _ = np.linalg.svd(np.concatenate(parts, 1), full_matrices=False)
    return vectors[:, sizes > 1e-10 * sizes[0]]

"""Variance components of a grid with missing runs: least squares, each effect adjusted for all that do not contain it (type II).

Seeds are blocks: every model has a column for each, so that a cell that lacks a hard seed is not thought good. With sigma^2 the mean
square that the model of all cells leaves, an effect's component is (its squares - its degrees of freedom * sigma^2) / runs. Seeds are
drawn, not chosen: their squares are divided by what a seed's unit variance would add to them. Sources: F. Yates, Journal of the American
Statistical Association 29 (1934), for the method of adjusted squares; C. Henderson, Biometrics 9 (1953), method 3, for the seeds'.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from netweight.errors import DataError

Effect = tuple[str, ...]


def components(
    cells: dict[tuple[str, ...], float], levels: Sequence[Sequence[str]], factors: Sequence[str]
) -> dict[Effect, float]:
    """The component of every effect, 0 where no run tells it from others, and under () what changes with the seed.

    Raises:
      DataError: too few runs to know the noise.
    """
    y = np.array(list(cells.values()))
    named = [_indicators([key[i] for key in cells], found) for i, found in enumerate(levels)]
    codes = [each[:, :-1] - each[:, -1:] for each in named]  # sum to zero: the last level is -1 everywhere
    columns = {u: _product([codes[factors.index(name)] for name in u]) for u in effects(factors)}
    seeds = codes[-1]
    everything = [seeds, *columns.values()]
    squares, freedom = _left(y, everything)
    if freedom < 1:
        raise DataError(f"{len(y)} runs leave nothing to know the noise from; repeat cells with more seeds")
    noise = squares / freedom
    found: dict[Effect, float] = {}
    for u in columns:
        rest = [seeds, *(columns[v] for v in columns if not set(u) <= set(v))]
        found[u] = _component(_left(y, rest), _left(y, [*rest, columns[u]]), noise, len(y))
    unit = float(sum(_left(seed, everything[1:])[0] for seed in named[-1].T))
    return found | {(): noise + _component(_left(y, everything[1:]), (squares, freedom), noise, unit)}


def _component(without: tuple[float, int], with_it: tuple[float, int], noise: float, unit: float) -> float:
    """The squares that only the effect explains, less noise's, over the squares that a variance of 1 would explain."""
    return (without[0] - with_it[0] - (without[1] - with_it[1]) * noise) / unit


def effects(factors: Sequence[str]) -> list[Effect]:
    """All sets of factors, by size, without the empty one."""
    return [u for size in range(1, len(factors) + 1) for u in itertools.combinations(factors, size)]


def _indicators(values: Sequence[str], levels: Sequence[str]) -> np.ndarray:
    """(runs, levels) 1 where a run has the level."""
    return np.array([[float(value == level) for level in levels] for value in values])


def _product(parts: Sequence[np.ndarray]) -> np.ndarray:
    """(runs, product of columns) all products of one column of each part."""
    made = np.ones((len(parts[0]), 1))
    for part in parts:
        made = (made[:, :, None] * part[:, None, :]).reshape(len(made), -1)
    return made


def _left(y: np.ndarray, columns: Sequence[np.ndarray]) -> tuple[float, int]:
    """Squares that the columns and a mean leave, and the degrees of freedom left."""
    design = np.concatenate([np.ones((len(y), 1)), *columns], 1)
    fit, _, rank, _ = np.linalg.lstsq(design, y, rcond=1e-10)
    return float(np.square(y - design @ fit).sum()), len(y) - int(rank)

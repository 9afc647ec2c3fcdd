"""A grid in TOML: axes of named values laid over a common table, times seeds; every cell is known by a hash of what it does."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from netweight.errors import SettingsError, nearest
from netweight.provenance import sha256_of_json
from netweight.settings import Seed, Settings, parse, read_toml

# What a row of a study holds beside its axes and measures, by what its cells do; a measure of one of these names would hide it.
COLUMNS = ("seed", "key", "failure")
OF_A_RUN = {
    "compress": ("bytes", "seconds", "peak_bytes"),
    "train": ("passes", "best", "steps", "ended", "diverged", "cpu", "trained_on", "judged_on"),
}


class Measure(Settings):
    """One number to take of every cell: a metric on data by name; over several data sets their mean."""

    name: str = Field(description="what the number is called")
    metric: str = Field(description="a metric of evaluate")
    claim: str | None = Field(
        None, description="of a compressed model: the claim to take, where the metric makes several"
    )
    data: list[str] = Field(
        [],
        description="of a compressed model: corpora as source/split, or files of items; a trained net has test slices",
    )
    items: int | None = Field(
        None, gt=0, description="of a compressed model: how many items of each set; all if absent"
    )
    settings: dict[str, Any] = Field({}, description="of a compressed model: the metric's")


class Compare(Settings):
    """Which axis is the question, and what published figures to hold the answer against."""

    axis: str = Field(description="the axis whose values are compared, all others being equal")
    baseline: str = Field(description="the value that the others are compared with")
    replicates: list[str] = Field([], description="of training: axes that repeat a setting as seeds do, such as folds")
    published: dict[str, list[float]] = Field(
        {},
        description='the least and largest share of the lost quality that others report to recover, by value ("hybrid") or setting and value',
    )
    published_of: str = Field("", description="the measure that published figures are of; every one if empty")


class _Grid(Settings):
    name: str = Field(description="name of the study")
    job: Literal["compress", "train"] = Field("compress", description="what a cell does with its recipe")
    model: str | None = Field(None, description="what is compressed, unless the command line says otherwise")
    data: str | None = Field(None, description="slices to train on, unless the command line says otherwise")
    seeds: list[Seed] = Field(description="seeds; comparisons are paired by them")
    recipe: dict[str, Any] = Field(description="what all cells have in common")
    axes: dict[str, dict[str, dict[str, Any]]] = Field(description="axis -> value -> what it lays over the recipe")
    skip: list[dict[str, str]] = Field([], description="combinations that are left out")
    measure: list[dict[str, Any]] = Field(description="numbers to take of every cell")
    compare: dict[str, Any] = Field(description="the question")


@dataclass(frozen=True)
class Cell:
    """One thing to do: the values of the axes, the seed, and the recipe that results."""

    values: Mapping[str, str]
    seed: int
    recipe: Mapping[str, Any]

    @property
    def setting(self) -> tuple[tuple[str, str], ...]:
        return tuple(self.values.items())

    @property
    def label(self) -> str:
        """Its values and its seed, for people."""
        return ", ".join([*self.values.values(), f"seed {self.seed}"])

    def key(self, context: Mapping[str, Any]) -> str:
        """Hash of what is done, on what, by which code: a cell with this key is done once and for all."""
        return sha256_of_json({"recipe": dict(self.recipe), "context": dict(context)})[:16]


@dataclass(frozen=True)
class Study:
    """A grid as it was read and checked."""

    name: str
    job: Literal["compress", "train"]
    model: str | None
    data: str | None
    seeds: tuple[int, ...]
    axes: Mapping[str, Sequence[str]]
    cells: tuple[Cell, ...]
    measures: tuple[Measure, ...]
    compare: Compare


def load(source: str | Path | dict[str, Any]) -> Study:
    """A study from a TOML file or a table of the same keys.

    Raises: SettingsError: what is wrong, and where; an axis without values, a constraint that names none, no cell left.
    """
    table = source if isinstance(source, dict) else read_toml(source)
    where = "study" if isinstance(source, dict) else Path(source).name
    if "axes" not in table and ({"net", "step"} & table.keys()):
        verb = "train" if "net" in table else "compress"
        raise SettingsError(
            f"{where}: it has no [axes], so it is one recipe, for `netweight {verb}`; a study lays [axes] over a [recipe]"
        )
    grid = parse(_Grid, table, where)
    compare = parse(Compare, grid.compare, f"{where}: [compare]")
    if not grid.seeds or len(set(grid.seeds)) < len(grid.seeds):
        raise SettingsError(f"{where}: seeds must be different numbers, at least one")
    for axis, values in grid.axes.items():
        if not values:
            raise SettingsError(f"{where}: axis {axis!r} has no values")
    _known(compare.axis, grid.axes, f"{where}: compare.axis")
    _known(compare.baseline, grid.axes[compare.axis], f"{where}: compare.baseline")
    for axis in compare.replicates:
        _known(axis, grid.axes, f"{where}: compare.replicates")
        if axis == compare.axis:
            raise SettingsError(f"{where}: axis {axis!r} is compared, and cannot repeat settings as well")
    for row in grid.skip:
        for axis, value in row.items():
            _known(axis, grid.axes, f"{where}: skip")
            _known(value, grid.axes[axis], f"{where}: skip")
    measures = tuple(parse(Measure, row, f"{where}: measure {n}") for n, row in enumerate(grid.measure, 1))
    if not measures:
        raise SettingsError(f"{where}: nothing is measured; add a [[measure]] table")
    _check_names(grid, measures, where)
    if grid.job == "compress" and compare.replicates:
        raise SettingsError(
            f"{where}: compare.replicates is for studies of training; of compression only seeds repeat a setting"
        )
    for measure in measures if grid.job == "train" else ():
        if said := sorted(measure.model_fields_set - {"name", "metric"}):
            raise SettingsError(
                f"{where}: measure {measure.name!r}: {said[0]!r} is for studies of compression; a trained net is judged on its test slices, by "
                "every metric's own settings"
            )
    if blind := [measure.name for measure in measures if grid.job == "compress" and not measure.data]:
        raise SettingsError(f"{where}: measure {blind[0]!r} names no data")
    cells = tuple(_cells(grid))
    if not cells:
        raise SettingsError(f"{where}: no cell is left; the [[skip]] tables leave out every combination")
    return Study(
        grid.name,
        grid.job,
        grid.model,
        grid.data,
        tuple(grid.seeds),
        {axis: tuple(values) for axis, values in grid.axes.items()},
        cells,
        measures,
        compare,
    )


def _check_names(grid: _Grid, measures: Sequence[Measure], where: str) -> None:
    """Raises: SettingsError: two columns of a study's rows would have one name."""
    named = [("an axis", axis) for axis in grid.axes] + [("a measure", measure.name) for measure in measures]
    taken = [*COLUMNS, *OF_A_RUN[grid.job], *(name for _, name in named)]
    for what, name in reversed(named):
        if taken.count(name) > 1:
            raise SettingsError(
                f"{where}: {what} is named {name!r}, as is another measure, an axis or a column of every study; each needs a name of its own"
            )


def _known(name: str, names: Mapping[str, Any], where: str) -> None:
    if name not in names:
        raise SettingsError(f"{where}: {name!r} is none of {', '.join(names)}{nearest(name, names)}")


def _cells(grid: _Grid) -> list[Cell]:
    """Seed by seed, so that a study that is cut short has whole pairs."""
    found = []
    for seed in grid.seeds:
        for chosen in itertools.product(*grid.axes.values()):
            values = dict(zip(grid.axes, chosen, strict=True))
            if any(all(values[axis] == value for axis, value in row.items()) for row in grid.skip):
                continue
            recipe: dict[str, Any] = {**grid.recipe, "seed": seed}
            for axis, value in values.items():
                recipe = laid_over(recipe, grid.axes[axis][value])
            found.append(Cell(values, seed, recipe))
    return found


def laid_over(below: Any, above: Any) -> Any:
    """``above`` on top of ``below``: tables key by key, lists of tables place by place, everything else replaced."""
    if isinstance(below, dict) and isinstance(above, dict):
        both = {key: laid_over(below[key], above[key]) for key in below if key in above}
        return {**below, **above, **both}
    if _tables(below) and _tables(above):
        longest = itertools.zip_longest(below, above)
        return [b if a is None else a if b is None else laid_over(b, a) for b, a in longest]
    return above


def _tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)

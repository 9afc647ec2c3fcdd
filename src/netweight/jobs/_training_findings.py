"""What a grid of trained nets shows: what each recipe costs, paired by seed, and how much is due to the net, its size and the recipe.

What repeats a setting is a seed or, where axes repeat it (folds), a combination of their values: seeds of one fold share its test patients, so
they are averaged, over those that both sides of a comparison have, and count once. Folds train on much the same patients, which Student's test
and the intervals allow for (``study.paired``'s overlap).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from netweight.errors import DataError
from netweight.study import Anova, Paired, Rankings, Study, anova, corrected, lost, paired, rankings
from netweight.train import load_recipe

SEED = "seed"


@dataclass(frozen=True)
class TrainingFindings:
    """A study's cells and what can be concluded from them.

    ``cells`` has a row per cell: its axes, seed, numbers, or why it failed. ``comparisons`` are paired by seed (or by fold);
    ``shares`` say per measure where the variance of what was lost comes from, ``ranks`` how alike the seeds rank the recipes.
    ``left_out`` names what could not be concluded, and why; ``better``: which way each measure is good.
    """

    name: str
    cells: tuple[Mapping[str, Any], ...]
    comparisons: tuple[Paired, ...]
    shares: Mapping[str, Anova]
    ranks: Mapping[str, Rankings]
    left_out: tuple[str, ...]
    better: Mapping[str, str]
    path: Path
    phantom: bool


def concluded(
    plan: Study, keys: Sequence[str], found: Mapping[str, Mapping[str, Any]], out: Path, *, phantom: bool
) -> TrainingFindings:
    """Rows, paired comparisons, shares of variance and rankings from the cells' results."""
    rows, better = [], {}
    for cell, key in zip(plan.cells, keys, strict=True):
        result = found[key]
        row: dict[str, Any] = {**cell.values, "seed": cell.seed, "key": key}
        if "failure" in result:
            row["failure"] = result["failure"]
        else:
            numbers = result["value"]["measures"]
            row |= {name: number["value"] for name, number in numbers.items()} | result["value"]["run"]
            better |= {name: number["better"] for name, number in numbers.items()}
        rows.append(row)
    return of_rows(plan, rows, better, out, phantom=phantom)


def of_rows(
    plan: Study, rows: Sequence[Mapping[str, Any]], better: Mapping[str, Any], out: Path, *, phantom: bool
) -> TrainingFindings:
    """The same from the cells of a ``study.json``; ``better``: which way each measure is good."""
    table = [row for row in rows if "failure" not in row]
    comparisons, shares, ranks, left_out = [], {}, {}, []
    for measure in plan.measures:
        name = measure.name
        if name not in better:
            left_out.append(f"{name}: no cell has it")
            continue
        found, lacking = _comparisons(plan, table, name, better[name])
        comparisons += found
        left_out += lacking
        if _factors(plan):
            with _noting(left_out, f"{name}, shares of variance"):
                shares[name] = _shares(plan, table, name, better[name])
        with _noting(left_out, f"{name}, order"):
            ranks[name] = _ranks(plan, table, name, better[name])
    return TrainingFindings(
        plan.name,
        tuple(rows),
        tuple(corrected(comparisons)),
        shares,
        ranks,
        tuple(left_out),
        dict(better),
        out,
        phantom,
    )


@contextmanager
def _noting(left_out: list[str], what: str) -> Iterator[None]:
    try:
        yield
    except DataError as error:
        left_out.append(f"{what}: {error}")


def _others(plan: Study) -> list[str]:
    """Axes that make a setting, beside the one that is compared."""
    return [name for name in plan.axes if name != plan.compare.axis and name not in plan.compare.replicates]


def _factors(plan: Study) -> list[str]:
    """Axes that what was lost can depend on: baselines lose nothing."""
    compare = plan.compare
    return [
        *(axis for axis in _others(plan) if len(plan.axes[axis]) > 1),
        *([compare.axis] if len(plan.axes[compare.axis]) > 2 else []),
    ]


def _unit(plan: Study) -> str:
    """What repeats a setting."""
    return " and ".join(plan.compare.replicates) or SEED


def _replicate(plan: Study, row: Mapping[str, Any]) -> str:
    return ", ".join(str(row[axis]) for axis in plan.compare.replicates or [SEED])


def _averaged(
    plan: Study, rows: Iterable[Mapping[str, Any]], columns: Sequence[str], value: str
) -> list[dict[str, Any]]:
    """One row for each value of the columns and each replicate: the mean over what is repeated besides, seeds of a fold."""
    found: dict[tuple[str, ...], list[float]] = {}
    for row in rows:
        unit = _replicate(plan, row)
        if row[value] is not None:
            found.setdefault((*(str(row[name]) for name in columns), unit), []).append(row[value])
    names = (*columns, _unit(plan))
    return [dict(zip(names, key, strict=True)) | {value: fmean(values)} for key, values in found.items()]


@dataclass(frozen=True)
class _Pair:
    """A value's number and the baseline's, of one replicate; whether a run of either diverged."""

    value: float
    baseline: float
    diverged: bool


Pairs = dict[str, _Pair]  # by replicate


def _comparisons(
    plan: Study, table: Sequence[Mapping[str, Any]], measure: str, better: Any
) -> tuple[list[Paired], list[str]]:
    """Every value of the compared axis against the baseline, in every setting of the others on the runs that both have, then on the mean over them.

    Also what cannot be compared, and why.
    """
    baseline, overlap = plan.compare.baseline, _overlap(plan, table)
    wanted, single, means, lacking = _wanted(plan), [], [], []
    for value in plan.axes[plan.compare.axis]:
        found = {setting: _pairs(plan, table, setting, value, measure) for setting, of in wanted if of == value}
        for setting, pairs in found.items():
            name = " ".join([*setting, value])
            if pairs:
                single.append((name, pairs, wanted[setting, value]))
            else:
                lacking.append(f"{measure}, {name}: no pair with {baseline}")
        if len(found) > 1:
            name = f"{value}, mean over every {' and '.join(_others(plan))}"
            if pairs := _mean_pairs(list(found.values())):
                means.append((name, pairs, max(wanted[setting, value] for setting in found)))
            else:
                without = [" ".join(setting) for setting, pairs in found.items() if not pairs]
                why = f"{', '.join(without)} has no pair" if without else "no replicate has them all"
                lacking.append(f"{measure}, {name}: {why}")
    rows = [
        paired(
            name, [pair.value for pair in pairs.values()], baseline, [pair.baseline for pair in pairs.values()], measure=measure, better=better,
            overlap=overlap, missing=count - len(pairs), diverged=sum(pair.diverged for pair in pairs.values()),
        )
        for name, pairs, count in (*single, *means)
    ]  # fmt: skip
    return rows, lacking


def _mean_pairs(found: Sequence[Pairs]) -> Pairs:
    """Means over settings, of the replicates that all of them have."""
    return {
        unit: _Pair(
            fmean(pairs[unit].value for pairs in found),
            fmean(pairs[unit].baseline for pairs in found),
            any(pairs[unit].diverged for pairs in found),
        )
        for unit in found[0]
        if all(unit in pairs for pairs in found)
    }


def _wanted(plan: Study) -> dict[tuple[tuple[str, ...], str], int]:
    """How many pairs with the baseline the plan has, by setting of the other axes and value of the one that is compared."""
    axis, baseline, others = plan.compare.axis, plan.compare.baseline, _others(plan)
    units: dict[tuple[tuple[str, ...], str], set[tuple[Any, ...]]] = {}
    for cell in plan.cells:
        setting = tuple(cell.values[name] for name in others)
        unit = tuple(cell.values[name] for name in plan.compare.replicates) or (cell.seed,)
        units.setdefault((setting, cell.values[axis]), set()).add(unit)
    return {
        (setting, value): len(found & units[setting, baseline])
        for (setting, value), found in units.items()
        if value != baseline and (setting, baseline) in units
    }


def _overlap(plan: Study, table: Sequence[Mapping[str, Any]]) -> float:
    """Patients that judge over patients that train, where folds repeat a setting; 0 where seeds do."""
    if not plan.compare.replicates:
        return 0.0
    known = [(row["judged_on"], row["trained_on"]) for row in table if row.get("trained_on")]
    if known:
        return sum(judged for judged, _ in known) / sum(trained for _, trained in known)
    # rows of before that was kept: half of one of k folds judges, k - 1 train
    splits = [load_recipe(dict(cell.recipe)).data.split for cell in plan.cells]
    return fmean(0.5 / (split.k - 1) if split.use == "folds" else 0.0 for split in splits)


def _pairs(
    plan: Study, table: Sequence[Mapping[str, Any]], setting: tuple[str, ...], value: str, measure: str
) -> Pairs:
    """Of one setting of the other axes, over the runs that both have; seeds of a fold are averaged."""
    axis, others, same = plan.compare.axis, _others(plan), (*plan.compare.replicates, SEED)
    here = [row for row in table if tuple(row[name] for name in others) == setting and row[measure] is not None]
    runs = {(row[axis], *(row[name] for name in same)): row for row in here}
    both = [
        (row, runs[plan.compare.baseline, *key[1:]])
        for key, row in runs.items()
        if key[0] == value and (plan.compare.baseline, *key[1:]) in runs
    ]
    ours, theirs = (_averaged(plan, [pair[k] for pair in both], (), measure) for k in (0, 1))
    diverged = {_replicate(plan, row) for pair in both for row in pair if row.get("diverged")}
    return {
        str(unit := a[_unit(plan)]): _Pair(a[measure], b[measure], unit in diverged)
        for a, b in zip(ours, theirs, strict=True)
    }


def _shares(plan: Study, table: Sequence[Mapping[str, Any]], measure: str, better: Any) -> Anova:
    compare = plan.compare
    within = [*_others(plan), *compare.replicates, SEED]
    down = lost(table, axis=compare.axis, baseline=compare.baseline, within=within, value=measure, better=better)
    kept = [factor for factor in _factors(plan) if len({row[factor] for row in down}) > 1]
    if not kept:
        raise DataError("no axis differs between what was compared, so there is nothing to share it out over")
    return anova(_averaged(plan, down, kept, "lost"), factors=kept, value="lost", replicate=_unit(plan))


def _ranks(plan: Study, table: Sequence[Mapping[str, Any]], measure: str, better: Any) -> Rankings:
    """A fold's order is that of its seeds that have every rival, where there are any: it is not to hang on which seed failed."""
    axis, block = plan.compare.axis, (*_others(plan), *plan.compare.replicates)
    there = [row for row in table if row[measure] is not None]
    rivals = {row[axis] for row in there}
    runs: dict[tuple[str, ...], dict[Any, list[Mapping[str, Any]]]] = {}
    for row in there:
        runs.setdefault(tuple(row[name] for name in block), {}).setdefault(row[SEED], []).append(row)
    chosen: list[Mapping[str, Any]] = []
    for seeds in runs.values():
        if plan.compare.replicates:
            seeds = {seed: rows for seed, rows in seeds.items() if {row[axis] for row in rows} == rivals} or seeds
        chosen += [row for rows in seeds.values() for row in rows]
    blocks = [*_others(plan), _unit(plan)]
    averaged = _averaged(plan, chosen, [*_others(plan), axis], measure)
    return rankings(averaged, items=axis, blocks=blocks, value=measure, better=better)

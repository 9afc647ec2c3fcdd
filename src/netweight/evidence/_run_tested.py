"""What runs were tested on: each set of slices by itself, with the measures on it and the reference of the runs that share it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from netweight.claim import Claim
from netweight.evidence._numbers import short_hash
from netweight.evidence._run_input import RunInput
from netweight.evidence._table import VerdictTable, key_of, verdict_table
from netweight.evidence._words import NO_MARGIN, Cell, data_name, metric_name
from netweight.words import counted

PRIMARY = (
    "auprc", "auprc_ratio", "pixel_recall", "pixel_f2", "patient_dice", "lesion_recall", "false_lesions_per_slice", "pixel_ece",
)  # fmt: skip
TRUSTED = 30  # patients from which a bootstrap interval holds about what it says: where the evaluation stops to warn


@dataclass(frozen=True)
class Tested:
    """Slices that some runs were tested on.

    Attributes:
      name: "lgg-mri/test", and whose, where other slices are called so too. about: whose they are, and their hash.
      own: the runs whose own test slices they are.
      reference: the one of them that others are paired with; "" where none are. paired: these others.
      table: the measures that decide, in their order. others: all other measures.
      marginless: does a verdict only say whether the interval of the difference excludes 0? Said once, not in each cell.
      few: that the patients are too few for intervals to be trusted; "" where they are not.
      remarks: what else must be known about the intervals of the measures that decide, each once.
    """

    name: str
    about: str
    own: tuple[str, ...]
    reference: str
    paired: tuple[str, ...]
    table: VerdictTable
    others: VerdictTable
    marginless: bool
    few: str
    remarks: tuple[str, ...]


def tested(runs: Sequence[RunInput], titles: Sequence[str]) -> tuple[Tested, ...]:
    """One entry for each set of slices: the runs' own tests first, then what else they were tested on."""
    found: dict[str, dict[str, list[Claim]]] = {run.test_sha256: {} for run in runs if run.on_own_test()}
    for run, title in zip(runs, titles, strict=True):
        for claim in run.claims:
            found.setdefault(_slices(claim), {}).setdefault(title, []).append(claim)
    names = Counter(_name(claims) for claims in found.values())
    return tuple(
        _tested(sha256, claims, dict(zip(titles, runs, strict=True)), alone=names[_name(claims)] == 1)
        for sha256, claims in found.items()
    )


def own_auprc(sets: Sequence[Tested], title: str) -> Cell:
    """A run's AUPRC on its own test slices."""
    label = metric_name("auprc")
    cells = [
        row.cells[one.table.subjects.index(title)]
        for one in sets
        if title in one.own
        for row in one.table.rows
        if row.label == label
    ]
    measured = [cell for cell in cells if cell.tone != "missing"]
    return next(iter(measured or cells), Cell("not measured", tone="missing"))


def pairing(sets: Sequence[Tested], titles: Sequence[str]) -> str:
    """Which of several runs are paired with which."""
    groups = [one for one in sets if one.reference]
    there = {title for one in groups for title in (one.reference, *one.paired)}
    if len(groups) == 1 and there == set(titles):
        return f"paired with {groups[0].reference}, the reference"
    if not groups:
        shared = any(len(one.own) > 1 for one in sets)
        return "not paired" if shared else "not paired, as no two have the same test slices"
    rest = [title for title in titles if title not in there]
    pairs = [f"{' and '.join(one.paired)} with {one.reference}" for one in groups]
    pairs += [f"{' and '.join(rest)} with none"] if rest else []
    return f"paired where test slices are the same: {', '.join(pairs)}"


def remarks(sets: Sequence[Tested]) -> tuple[str, ...]:
    """What must be known about the intervals, each remark once, with the slices it is about where it is not about all."""
    about: dict[str, list[str]] = {}
    for one in sets:
        for remark in one.remarks:
            about.setdefault(remark, []).append(one.name)
    return tuple(
        remark if len(names) == len(sets) else f"on {' and '.join(names)}: {remark}" for remark, names in about.items()
    )


def _tested(sha256: str, claims: Mapping[str, list[Claim]], runs: Mapping[str, RunInput], *, alone: bool) -> Tested:
    own = tuple(title for title in claims if runs[title].test_sha256 == sha256)
    pairs = {title: runs[title].reference for title in own if runs[title].reference}
    reference = next(iter(pairs.values()), "")
    claims = _alike(claims)
    primary, others = (
        {title: [claim for claim in found if (claim.metric in PRIMARY) is chosen] for title, found in claims.items()}
        for chosen in (True, False)
    )
    name = _name(claims) if alone else f"{_name(claims)} of {', '.join(own or claims)}"
    who = ("Other slices than the own test of " if not own else "Test slices of ") + ", ".join(own or claims)
    paired = f"; differences are from {reference}, the reference" if reference else ""
    tables = (_ordered(primary, reference), verdict_table(others, original=reference, decimals="shared"))
    return Tested(
        name, f"{who}{paired}. SHA-256 {short_hash(sha256)}.", own, reference, tuple(pairs), _plainer(tables[0]), _plainer(tables[1]),
        any(cell.verdict.endswith(NO_MARGIN) for table in tables for cell in _cells(table)), _few(tables), _remarks(primary),
    )  # fmt: skip


def _cells(table: VerdictTable) -> list[Cell]:
    return [cell for row in table.rows for cell in row.cells]


def _plainer(table: VerdictTable) -> VerdictTable:
    return replace(
        table, rows=tuple(replace(row, cells=tuple(_cautious(cell) for cell in row.cells)) for row in table.rows)
    )


def _cautious(cell: Cell) -> Cell:
    """Without what the page says once; of few patients a direction gets no colour that would praise or warn."""
    short = replace(cell, verdict=cell.verdict.removesuffix(NO_MARGIN))
    if not cell.difference or not cell.verdict or not 0 < cell.n < TRUSTED:
        return short
    return replace(short, tone="bad" if cell.tone == "bad" else "plain", caution=f"only {counted(cell.n, 'patient')}")


def _few(tables: Sequence[VerdictTable]) -> str:
    """How few patients the intervals are from, as one sentence."""
    numbers = sorted({cell.n for table in tables for cell in _cells(table) if " to " in cell.interval})
    few = [n for n in numbers if 0 < n < TRUSTED]
    if not few:
        return ""
    patients = counted(few[0], "patient") if len(few) == 1 else f"{few[0]} to {few[-1]} patients"
    judged = any(cell.difference and cell.verdict for table in tables for cell in _cells(table))
    colourless = " “Better” and “worse” are therefore not coloured." if judged else ""
    return f"Only {patients}: bootstrap intervals from fewer than {TRUSTED} are usually too narrow.{colourless}"


def _ordered(claims: Mapping[str, Sequence[Claim]], reference: str) -> VerdictTable:
    """Rows in the order of the measures."""
    table = verdict_table(claims, original=reference, decimals="shared")
    keys = list(dict.fromkeys(key_of(claim) for found in claims.values() for claim in found))
    rows = sorted(zip(keys, table.rows, strict=True), key=lambda pair: PRIMARY.index(pair[0][0]))
    return replace(table, rows=tuple(row for _, row in rows))


def _remarks(claims: Mapping[str, Sequence[Claim]]) -> tuple[str, ...]:
    """Notes are made of remarks, of which one claim has some and another others; how few patients there are stands above them."""
    own = [c for found in claims.values() for c in found if c.value is not None and not c.metric.endswith("_ratio")]
    said = [(remark.removeprefix("difference: "), claim.n) for claim in own for remark in claim.note.split("; ")]
    return tuple(dict.fromkeys(_in_full(remark) for remark, n in said if remark and not _of_few(remark, n)))


def _of_few(remark: str, n: int) -> bool:
    return n < TRUSTED and remark.startswith(f"only {n} ") and remark.endswith("too narrow")


def _in_full(remark: str) -> str:
    """The one remark that says nothing away from its interval, with what it is about."""
    where = "where an interval has no width, all patients are alike: "
    return where + remark if remark.startswith("nothing is known of") else remark


def _alike(claims: Mapping[str, list[Claim]]) -> dict[str, list[Claim]]:
    """The same slices under one name, by whatever name each run found them."""
    first = next(iter(claims.values()))[0].data
    name = {key: first[key] for key in ("source", "split") if key in first}
    return {title: [replace(c, data=c.data | name) for c in found] for title, found in claims.items()}


def _slices(claim: Claim) -> str:
    return str(claim.data.get("sha256") or data_name(claim))


def _name(claims: Mapping[str, Sequence[Claim]]) -> str:
    return data_name(next(iter(claims.values()))[0]) or "slices that are not recorded"

"""What studies found, as paragraphs: so many numbers fit no table that a terminal could show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from netweight.cli._parts import STYLE, interval, number, wrote

if TYPE_CHECKING:
    from netweight.jobs._training_findings import TrainingFindings
    from netweight.jobs.study import Findings
    from netweight.study import Recovery


def findings(found: Findings) -> RenderableType:
    """A paragraph for each comparison: so many numbers fit no table that a terminal could show."""
    failed = [row for row in found.cells if "failure" in row]
    done = len(found.cells) - len(failed)
    lines: list[RenderableType] = [Text(f"{found.name}: {done} of {len(found.cells)} cells done")]
    lines += [Text(f"failed: {_cell(row)}: {row['failure']}", style=STYLE["warning"]) for row in failed]
    for row in found.comparisons:
        title = f"{row.setting}: " if row.setting else ""
        lines += [Text(""), Text(f"{title}{row.value} against {found.baseline}, {row.measure}", style="bold")]
        lines.append(_comparison(row, found.baseline))
    return Group(*lines, Text(""), wrote(found.path / "study.json"))


def _comparison(row: Recovery, baseline: str) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    grid.add_row(
        "  mean", f"{number(row.original)} original, {number(row.baseline)} {baseline}, {number(row.other)} {row.value}"
    )
    p = "" if row.adjusted_t_p is None else f", p {number(row.adjusted_t_p)} after Holm's correction"
    grid.add_row("  gain", f"{number(row.difference)} {interval(row.low, row.high)} over {row.n} seeds{p}")
    if row.share is not None:
        low, high = (("unbounded" if x is None else f"{100 * x:.3g} %") for x in (row.share_low, row.share_high))
        grid.add_row("  recovered", f"{100 * row.share:.3g} % ({low} to {high}) of what {baseline} lost")
    if row.verdict:
        grid.add_row("  verdict", row.verdict)
    if row.seeds_to_settle is not None:
        grid.add_row("  to settle", f"{row.seeds_to_settle} seeds")
    return grid


def training_findings(found: TrainingFindings) -> RenderableType:
    """A paragraph for each finding; sentences are the findings' own."""
    failed = [row for row in found.cells if "failure" in row]
    done = len(found.cells) - len(failed)
    made = " on phantoms, which say nothing about patients" if found.phantom else ""
    lines: list[RenderableType] = [Text(f"{found.name}: {done} of {len(found.cells)} cells done{made}")]
    lines += [Text(f"failed: {_cell(row)}: {row['failure']}", style=STYLE["warning"]) for row in failed]
    lines += [
        Text(f"diverged, and judged as it ended: {_cell(row)}: {row['ended']}", style=STYLE["warning"])
        for row in found.cells
        if row.get("diverged")
    ]
    for row in found.comparisons:
        lines += [Text(""), Text(row.words())]
    for name, one in (*found.shares.items(), *found.ranks.items()):
        lines += [Text(""), Text(name, style="bold"), Text(one.words())]
    lines += [Text(f"left out: {why}", style=STYLE["warning"]) for why in found.left_out]
    return Group(*lines, Text(""), wrote(found.path / "study.json"))


def _cell(row: Mapping[str, Any]) -> str:
    """The values of a cell's axes and its seed, which come before its key."""
    return ", ".join(str(value) for value in list(row.values())[: list(row).index("key")])

"""What every table of the command line is made of: styles, numbers, intervals, columns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

STYLE = {"ok": "green", "warning": "yellow", "problem": "bold red"}
STYLE |= {"holds": "green", "not checked": "yellow", "fails": "bold red"}


def size(count_bytes: float) -> str:
    """Bytes in decimal units, three digits: 92.9 MB."""
    if count_bytes < 1000:
        return f"{count_bytes:.0f} B"
    for unit in ("kB", "MB"):
        count_bytes /= 1000
        if count_bytes < 999.5:
            return f"{count_bytes:.3g} {unit}"
    return f"{count_bytes / 1000:.3g} GB"


def number(value: float | None) -> str:
    """Four digits, or a dash for what was not measured."""
    return "–" if value is None else f"{value:.4g}"


def duration(seconds: float) -> str:
    """12 s, 3 min 20 s, 2 h 05 min."""
    if seconds < 100:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


def interval(low: float | None, high: float | None) -> str:
    """In parentheses; nothing where there is none."""
    return "" if low is None or high is None else f"({low:.4g} to {high:.4g})"


def new_table(title: str, *columns: str, right: Sequence[str] = ()) -> Table:
    """Columns of numbers are set right and not broken."""
    table = Table(title=escape(title), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        justify = "right" if column in right else "left"
        table.add_column(column, justify=justify, overflow="fold", no_wrap=column in right)
    return table


def wrote(path: Path) -> RenderableType:
    """Where something was put."""
    return Text(f"wrote {path}")

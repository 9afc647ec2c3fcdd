"""Progress on stderr: a bar with time left on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

if TYPE_CHECKING:
    from netweight import progress

LINE_EVERY_S = 30.0


@contextmanager
def shown(stream: TextIO) -> Iterator[progress.Progress]:
    """A callback that shows what it is told on ``stream`` while the context lasts; silent until it is called."""
    if not stream.isatty():
        yield Lines(stream)
        return
    bars = Bars(stream)
    try:
        yield bars
    finally:
        bars.stop()


class Bars:
    """One bar for each kind of work."""

    def __init__(self, stream: TextIO) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        left = (TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[note]}", style="dim"))
        self._bars = Progress(*columns, *left, console=Console(file=stream))
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, what: str, done: int, total: int, note: str = "") -> None:
        if what not in self._tasks:
            self._bars.start()  # does nothing the second time
            self._tasks[what] = self._bars.add_task(what, total=total, note=note)
        self._bars.update(self._tasks[what], completed=done, total=total, note=note)

    def stop(self) -> None:
        if self._tasks:
            self._bars.stop()


class Lines:
    """``compress 12/30 (model.layers.11), 95 s left``: when work begins, ends, and every half minute between."""

    def __init__(self, stream: TextIO, *, now: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._now = stream, now
        self._begun: dict[str, tuple[float, int]] = {}  # time, and what was already done then
        self._last_s = 0.0

    def __call__(self, what: str, done: int, total: int, note: str = "") -> None:
        now = self._now()
        begun_s, first = self._begun.setdefault(what, (now, done))
        if done not in (first, total) and now - self._last_s < LINE_EVERY_S:
            return
        self._last_s = now
        left_s = (now - begun_s) / (done - first) * (total - done) if done > first else None
        ending = f", {left_s:.0f} s left" if left_s and done < total else ""
        self._stream.write(f"{what} {done}/{total}{f' ({note})' if note else ''}{ending}\n")
        self._stream.flush()

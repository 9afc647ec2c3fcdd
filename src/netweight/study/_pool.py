"""Do cells, a few at once, each known by its key; what is done stays done, what failed is a row too.

A cell's folder holds ``result.json`` once it is finished, whole or not at all. A cell whose process is killed is started once more;
killed again, or ended by an error, it leaves a row that says so, and the study goes on. Where cells run is the backend's affair.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from netweight.errors import SettingsError
from netweight.progress import Progress, silent
from netweight.study import _ray
from netweight.study._processes import RESULT, Processes, Work, keep

TRIES = 2
POLL_S = 0.2


class Running(Protocol):
    """A try of a cell that has been started."""

    def alive(self) -> bool:
        """Is it still at work?"""
        ...

    def ended(self) -> str:
        """How it ended, in words, once it is not; what it kept lies in its folder then."""
        ...


class Backend(Protocol):
    """Where cells run."""

    def start(self, work: Work, what: Mapping[str, Any], folder: Path) -> Any:
        """Begin a try; gives a ``Running``."""
        ...

    def stop(self, running: Any) -> None:
        """End what is still at work."""
        ...


@dataclass(frozen=True)
class Task:
    """Something to do, under a key that says all that decides its result."""

    key: str
    what: Mapping[str, Any]
    label: str


@dataclass(frozen=True)
class Pool:
    """Where cells run and how many at once.

    ``threads`` is what a cell takes of a cluster; the work sees to it that it takes no more. ``ray`` is the cluster to run on,
    as ``netweight.study`` takes it; processes on this machine if None. ``retry_failed`` does those again that failed before.
    Raises: SettingsError: fewer than one worker or thread.
    """

    workers: int = 1
    threads: int = 1
    ray: str | None = None
    retry_failed: bool = False

    def __post_init__(self) -> None:
        if self.workers < 1 or self.threads < 1:
            raise SettingsError(f"workers = {self.workers}, threads = {self.threads}: both must be 1 or more")

    @contextmanager
    def backend(self, folder: Path) -> Iterator[Backend]:
        if self.ray is None:
            yield Processes()
        else:
            with _ray.cluster(self.ray, folder, workers=self.workers, threads=self.threads) as found:
                yield found


def run(
    tasks: Sequence[Task], work: Work, folder: Path, pool: Pool | None = None, *, progress: Progress = silent
) -> dict[str, dict[str, Any]]:
    """Results by key: what the work gave under ``"value"``, or why it failed under ``"failure"``.

    Raises: SettingsError: no cluster there, or one whose workers are not fit. ResourceError: it went away.
    """
    pool = pool or Pool()
    folder.mkdir(parents=True, exist_ok=True)
    done = {task.key: found for task in tasks if (found := read(folder / task.key, pool.retry_failed)) is not None}
    waiting = [task for task in {t.key: t for t in tasks if t.key not in done}.values()]
    progress("cells", len(done), len({t.key for t in tasks}))
    if waiting:
        with pool.backend(folder) as backend:
            _do(waiting, work, folder, backend, pool.workers, done, progress)
    return {task.key: done[task.key] for task in tasks}


def _do(
    waiting: list[Task],
    work: Work,
    folder: Path,
    backend: Backend,
    workers: int,
    done: dict[str, dict[str, Any]],
    progress: Progress,
) -> None:
    """Everything that waits, into ``done``."""
    tried: dict[str, int] = {}
    running: dict[str, tuple[Running, Task]] = {}
    total = len(done) + len(waiting)
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                task = waiting.pop(0)
                tried[task.key] = tried.get(task.key, 0) + 1
                (folder / task.key / RESULT).unlink(missing_ok=True)  # of a failure that is tried again
                running[task.key] = (backend.start(work, task.what, folder / task.key), task)
            time.sleep(POLL_S)
            for key, (one, task) in list(running.items()):
                if one.alive():
                    continue
                how = one.ended()
                del running[key]
                found = read(folder / key, False)
                if found is None and tried[key] < TRIES:
                    waiting.insert(0, task)
                    continue
                if found is None:
                    found = {"failure": f"{how}, {TRIES} times"}
                    keep(folder / key, found)
                done[key] = found
                progress("cells", len(done), total, task.label)
    finally:
        backend.stop([one for one, _ in running.values()])


def read(folder: Path, retry_failed: bool) -> dict[str, Any] | None:
    """A cell's result, or None where there is none yet."""
    try:
        found = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return None if retry_failed and "failure" in found else found

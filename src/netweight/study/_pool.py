"""Do cells in processes of their own, each known by its key; what is done stays done, what failed is a row too.

A cell's folder holds ``result.json`` once it is finished, whole or not at all. A process that is killed is started once more;
killed again, or ended by an error, it leaves a row that says so, and the study goes on.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netweight.errors import NetweightError
from netweight.files import write_atomically
from netweight.progress import Progress, silent

RESULT = "result.json"
TRIES = 2
POLL_S = 0.2

Work = Callable[[Mapping[str, Any], str], dict[str, Any]]  # (task, folder) -> what is kept; must be importable by name


@dataclass(frozen=True)
class Task:
    """Something to do, under a key that says all that decides its result."""

    key: str
    what: Mapping[str, Any]
    label: str


def run(
    tasks: Sequence[Task],
    work: Work,
    folder: Path,
    *,
    workers: int = 1,
    retry_failed: bool = False,
    progress: Progress = silent,
) -> dict[str, dict[str, Any]]:
    """Results by key: what the work gave under ``"value"``, or why it failed under ``"failure"``.

    Args:
      retry_failed: do those again that failed before.
    """
    folder.mkdir(parents=True, exist_ok=True)
    done = {task.key: found for task in tasks if (found := read(folder / task.key, retry_failed)) is not None}
    waiting = [task for task in {t.key: t for t in tasks if t.key not in done}.values()]
    tried: dict[str, int] = {}
    running: dict[str, tuple[Any, Task]] = {}
    begun, total, first = time.monotonic(), len({t.key for t in tasks}), len(done)
    context = multiprocessing.get_context("spawn")
    progress("cells", len(done), total)
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                task = waiting.pop(0)
                tried[task.key] = tried.get(task.key, 0) + 1
                process = context.Process(target=_child, args=(work, dict(task.what), str(folder / task.key)))
                process.start()
                running[task.key] = (process, task)
            time.sleep(POLL_S)
            for key, (process, task) in list(running.items()):
                if process.is_alive():
                    continue
                process.join()
                del running[key]
                found = read(folder / key, False)
                if found is None and tried[key] < TRIES:
                    waiting.insert(0, task)
                    continue
                if found is None:
                    found = _keep(
                        folder / key, {"failure": f"its process ended with code {process.exitcode}, {TRIES} times"}
                    )
                done[key] = found
                progress("cells", len(done), total, f"{task.label}{_left(begun, len(done) - first, total - len(done))}")
    finally:
        for process, _ in running.values():
            process.terminate()
            process.join()
    return {task.key: done[task.key] for task in tasks}


def read(folder: Path, retry_failed: bool) -> dict[str, Any] | None:
    """A cell's result, or None where there is none yet."""
    try:
        found = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return None if retry_failed and "failure" in found else found


def _child(work: Work, what: dict[str, Any], folder: str) -> None:
    """In the new process: do the work and keep what came of it, a failure as well."""
    threading.Thread(target=_end_with_the_study, daemon=True).start()
    Path(folder).mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    try:
        found: dict[str, Any] = {"value": work(what, folder)}
    except NetweightError as error:
        found = {"failure": f"{type(error).__name__}: {error}"}
    except Exception as error:  # a cell must not end a study of many hours
        (Path(folder) / "traceback.txt").write_text(traceback.format_exc(), encoding="utf-8")
        found = {"failure": f"{type(error).__name__}: {error} (see traceback.txt)"}
    _keep(Path(folder), {**found, "seconds": round(time.monotonic() - begun, 1)})


def _end_with_the_study() -> None:
    """End when the study does, even if it was killed and could say nothing, however early that was."""
    if (study := multiprocessing.parent_process()) is not None:
        study.join()
        os._exit(1)


def _keep(folder: Path, found: dict[str, Any]) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / RESULT, json.dumps(found, sort_keys=True, indent=1))
    return found


def _left(begun: float, done: int, left: int) -> str:
    """ "; about 12 min left", from the pace so far."""
    if not done or not left:
        return ""
    minutes = (time.monotonic() - begun) / done * left / 60
    return f"; about {minutes:.0f} min left" if minutes >= 1 else "; less than a minute left"

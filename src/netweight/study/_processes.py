"""A cell in a process of its own: started fresh, watched, and ended with whoever started it."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType
from typing import Any

from netweight.errors import NetweightError
from netweight.files import write_atomically

RESULT = "result.json"

Work = Callable[[Mapping[str, Any], str], dict[str, Any]]  # (task, folder) -> what is kept; must be importable by name


@dataclass(frozen=True)
class Process:
    """A cell that has been started."""

    process: BaseProcess

    def alive(self) -> bool:
        return self.process.is_alive()

    def ended(self) -> str:
        """How it ended, in words; what it kept lies in its folder."""
        self.process.join()
        return f"its process ended with code {self.process.exitcode}"

    def stop(self) -> None:
        self.process.terminate()
        self.process.join()


@dataclass(frozen=True)
class Processes:
    """Cells on this machine."""

    def start(self, work: Work, what: Mapping[str, Any], folder: Path) -> Process:
        process = multiprocessing.get_context("spawn").Process(target=_child, args=(work, dict(what), str(folder)))
        with _main_file_not_run():
            process.start()
        return Process(process)

    def stop(self, running: list[Process]) -> None:
        for one in running:
            one.stop()


@contextmanager
def _main_file_not_run() -> Iterator[None]:
    """A process that is spawned here runs the main file again, which may be anybody's script, without a guard: it is not to see one."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def keep(folder: Path, found: Mapping[str, Any]) -> None:
    """Write a cell's result."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / RESULT, json.dumps(dict(found), sort_keys=True, indent=1))


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
    keep(Path(folder), {**found, "seconds": round(time.monotonic() - begun, 1)})


def _end_with_the_study() -> None:
    """End when the study does, even if it was killed and could say nothing, however early that was."""
    if (study := multiprocessing.parent_process()) is not None:
        study.join()
        os._exit(1)

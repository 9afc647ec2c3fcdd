"""What a worker of a cluster does with a cell: the same process that would do it at home, and what that left, brought back.

A worker that sees the study's disk works in the cell's own folder, where one that was killed has left off. Any other works in a
folder of its own and gives back every file in it. A worker with other code or other libraries than the study's does nothing: what it
found would stand under the wrong key.
"""

from __future__ import annotations

import os
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from netweight import provenance
from netweight.study._processes import RESULT, Processes, Work

OURS = ("NETWEIGHT_", "OMP_", "MKL_", "OPENBLAS_", "HF_", "TRANSFORMERS_")  # variables that can change a cell's numbers
POLL_S = 0.1


@dataclass(frozen=True)
class Home:
    """The study's own machine, as its cells must find it: a file that is seen where the disk is, the folder we are in, variables, code."""

    mark: str
    cwd: str
    variables: Mapping[str, str]
    code: str
    versions: Mapping[str, str]

    @classmethod
    def here(cls, mark: Path) -> Home:
        variables = {name: value for name, value in os.environ.items() if name.startswith(OURS)}
        return cls(str(mark), os.getcwd(), variables, provenance.code_sha256(), provenance.versions())


@dataclass(frozen=True)
class Left:
    """What came of a try.

    ``words`` say how its process ended. ``files`` are by path in the cell's folder: all where it was done in another, else the result alone.
    ``refused`` says why the worker would not do it.
    """

    words: str = ""
    files: Mapping[str, bytes] = field(default_factory=dict)
    elsewhere: bool = False
    refused: str = ""


def done(home: Home, work: Work, what: Mapping[str, Any], folder: str) -> Left:
    """Do a cell; runs on the worker."""
    if why := _other(home):
        return Left(refused=f"{socket.gethostname()} {why}")
    if Path(home.mark).is_file():
        words = _process(home, work, what, Path(folder))
        result = Path(folder) / RESULT
        return Left(words, {RESULT: result.read_bytes()} if result.is_file() else {})
    try:
        with tempfile.TemporaryDirectory(prefix="netweight-cell-") as made:
            words = _process(home, work, what, Path(made))
            return Left(words, _files(Path(made)), elsewhere=True)
    except OSError as error:
        return Left(f"its worker on {socket.gethostname()} could not keep it ({error})")


def _other(home: Home) -> str:
    """How this worker differs from the study; "" where it does not."""
    here = provenance.versions()
    for name in dict.fromkeys((*here, *home.versions)):
        if here.get(name) != home.versions.get(name):
            return f"has {name} {here.get(name, 'not at all')}, the study {home.versions.get(name, 'not at all')}"
    return "has other source files of netweight than the study" if provenance.code_sha256() != home.code else ""


def _process(home: Home, work: Work, what: Mapping[str, Any], folder: Path) -> str:
    with _as_at(home):
        process = Processes().start(work, what, folder)
    try:
        while process.alive():  # not one long wait: a study that is interrupted interrupts between two instructions
            time.sleep(POLL_S)
        return process.ended()
    finally:
        process.stop()


@contextmanager
def _as_at(home: Home) -> Iterator[None]:
    """For a process that is started here: the study's folder and variables, so no threads that the cluster chose."""
    variables, cwd = dict(os.environ), os.getcwd()
    for name in [name for name in os.environ if name.startswith(OURS)]:
        del os.environ[name]
    os.environ.update(home.variables)
    try:
        if Path(home.cwd).is_dir():
            os.chdir(home.cwd)
        yield
    finally:
        os.chdir(cwd)
        os.environ.clear()
        os.environ.update(variables)


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}

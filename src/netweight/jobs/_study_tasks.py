"""What both kinds of study do with a grid: its cells as tasks, each under a key of all that decides its numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from netweight import provenance
from netweight.errors import SettingsError
from netweight.study import Cell, Study, Task

CELLS = "cells"  # the folder of a study's cells


@contextmanager
def said_of(plan: Study, cell: Cell) -> Iterator[None]:
    """What is wrong with a cell's recipe is said of that cell."""
    try:
        yield
    except SettingsError as error:
        raise SettingsError(f"{plan.name}: {cell.label}: {error}") from error


def context_of(plan: Study, threads: int, **inputs: Any) -> dict[str, Any]:
    """All that decides a cell's numbers beside its recipe; ``inputs`` are hashes of what it works on."""
    return {
        **inputs,
        "measures": [measure.model_dump(mode="json") for measure in plan.measures],
        "code": provenance.code_sha256(),
        "versions": provenance.versions(),
        "threads": threads,
    }


def tasks_of(cells: Sequence[Cell], context: Mapping[str, Any], **source: str) -> list[Task]:
    """A task per cell; ``source`` says where the work finds the model or the data."""
    what = {**source, "measures": context["measures"], "threads": context["threads"]}
    return [Task(cell.key(context), {**what, "recipe": dict(cell.recipe)}, cell.label) for cell in cells]

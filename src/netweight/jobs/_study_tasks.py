"""What both kinds of study do with a grid: its cells as tasks, each under a key of all that decides its numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from netweight import provenance
from netweight.study import Cell, Study, Task


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

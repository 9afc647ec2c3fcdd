"""One cell of a study in a process of its own: compress by its recipe, measure, keep the numbers and not the weights."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from netweight import data, models
from netweight.artifact import open_artifact
from netweight.errors import DataError, SettingsError
from netweight.evaluate import Task, task
from netweight.jobs import _tasks
from netweight.jobs.compress import compress
from netweight.jobs.evaluate import evaluate
from netweight.study import OF_A_RUN, Measure

MADE, SPENT = "artifact", "artifact.spent"
KEPT = ("ledger.jsonl", "recipe.toml", "netweight.json", "claims.jsonl", "overlap.json", "run.json")


def work(what: Mapping[str, Any], folder: str) -> dict[str, Any]:
    """``what``: model, recipe (None measures the original), measures, threads.

    Returns:
      ``measures``: value by name, with ``better`` and unit; ``bytes`` of weights; of a compressed model also its peak memory and time.
    """
    place, threads = Path(folder), int(what["threads"])
    subject: Any = what["model"]
    run: dict[str, Any] = {}
    _clear(place)
    if what["recipe"] is not None:
        # a killed cell may have come this far: an artifact is there whole or not at all
        if not (place / MADE).exists():
            compress(what["model"], dict(what["recipe"]), out=place / MADE, threads=threads)
        subject = open_artifact(place / MADE)
        run = {"bytes": subject.nbytes} | subject.run
    measures = [Measure.model_validate(row) for row in what["measures"]]
    reader = models.load(what["model"])
    found = {measure.name: _measured(measure, subject, reader, threads) for measure in measures}
    if what["recipe"] is not None:
        for name in KEPT:
            if (place / MADE / name).is_file():
                shutil.copy(place / MADE / name, place / name)
        (place / MADE).rename(place / SPENT)  # half an artifact must not be taken for a whole one
        _clear(place)
    return {"measures": found, "run": {key: run[key] for key in OF_A_RUN["compress"] if key in run}}


def _clear(place: Path) -> None:
    if (place / SPENT).exists():
        shutil.rmtree(place / SPENT)


def _measured(measure: Measure, subject: Any, reader: models.Model, threads: int) -> dict[str, Any]:
    """The mean over the measure's data sets, each with its own value."""
    tasks = [_task(measure, name, reader) for name in measure.data]
    claims = evaluate([subject], tasks=tasks, threads=threads)
    wanted = measure.claim or tasks[0].quantities[0].name
    chosen = [claim for claim in claims if claim.metric == wanted and claim.value is not None]
    if len(chosen) != len(tasks):
        names = sorted({claim.metric for claim in claims})
        raise SettingsError(
            f"measure {measure.name}: {wanted!r} is not what {measure.metric} gives: {', '.join(names)}"
        )
    values = [float(claim.value) for claim in chosen if claim.value is not None]
    return {
        "value": sum(values) / len(values),
        "unit": chosen[0].unit,
        "better": chosen[0].better,
        "n": sum(claim.n for claim in chosen),
        "each": dict(zip(measure.data, values, strict=True)),
    }


def _task(measure: Measure, name: str, reader: models.Model) -> Task:
    tokenizer = reader.tokenizer()
    if name in data.corpora():
        source, split = name.rsplit("/", 1)
        return task(measure.metric, _tasks.text(source, split, tokenizer), **measure.settings)
    return task(measure.metric, _tasks.items(name, measure.items, tokenizer), **measure.settings)


def data_sha256(measure: Measure, reader: models.Model) -> list[str]:
    """Hashes of the data a measure reads, so that a cell is not taken for done on other data."""
    found = []
    for name in measure.data:
        described = one.data.describe() if (one := _task(measure, name, reader)).data is not None else {}
        if not described:
            raise DataError(f"measure {measure.name}: {name} describes no data")
        found.append(str(described["sha256"]))
    return found

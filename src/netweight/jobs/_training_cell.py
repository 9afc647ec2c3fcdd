"""One cell of a study of training in a process of its own: train by its recipe, keep the run and its numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from netweight.claim import Claim
from netweight.errors import SettingsError
from netweight.jobs.train import train
from netweight.study import Measure

MADE = "run"


def work(what: Mapping[str, Any], folder: str) -> dict[str, Any]:
    """``what``: data, recipe, measures, device, threads. A cell that was killed goes on where its training was.

    Returns:
      ``measures``: value by name, with ``better``, unit and n; ``run``: passes, steps, why training ended, whether because something was not finite,
      on which processor, and how many patients trained and judged it.
    """
    where = {"data": what["data"], "device": what["device"], "threads": int(what["threads"])}
    run = train(dict(what["recipe"]), out=Path(folder) / MADE, **where)
    claims = run.claims()
    history = run.training["history"]
    return {
        "measures": {m.name: _of(m, claims) for m in (Measure.model_validate(row) for row in what["measures"])},
        "run": {
            "passes": len(history["rows"]),
            "best": history["best"],
            "steps": history["steps"],
            "ended": history["ended"],
            "diverged": history["diverged"],
            "cpu": run.training["environment"]["cpu"],
            "trained_on": run.training["split"]["patients"]["train"],
            "judged_on": run.training["split"]["patients"]["test"],
        },
    }


def _of(measure: Measure, claims: list[Claim]) -> dict[str, Any]:
    found = next((claim for claim in claims if claim.metric == measure.metric), None)
    if found is None:
        raise SettingsError(
            f"measure {measure.name}: {measure.metric!r} is not measured of a trained net: {', '.join(c.metric for c in claims)}"
        )
    return {"value": found.value, "unit": found.unit, "better": found.better, "n": found.n}

"""Numbers of repeated rounds, for a record and for a page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from netweight.evaluate import median_interval


def spread(values: Sequence[float] | np.ndarray) -> dict[str, Any]:
    """Median over rounds, with the interval of its order statistics; fewer than 6 rounds have none."""
    found = np.asarray(values, dtype=float)
    interval = median_interval(found, items="rounds")
    return {"median": float(np.median(found)), "low": interval.low, "high": interval.high, "n": len(found)}


def cell(found: dict[str, Any], digits: int = 3) -> str:
    bounds = "–" if found["low"] is None else f"{found['low']:.{digits}g}, {found['high']:.{digits}g}"
    return f"{found['median']:.{digits}g} [{bounds}]"


def about(settings: Mapping[str, Any], environment: Mapping[str, Any]) -> str:
    """What was measured, and on what, in one sentence each."""
    said = ", ".join(f"{key} {value}" for key, value in settings.items() if key != "threads")
    return (
        f"{environment['cpu']}, {environment['threads']} threads of {environment['cores']} cores; torch "
        f"{environment['versions']['torch']}, commit {environment['commit'][:12] or 'unknown'}. Settings: {said}."
    )


def keep(folder: Path, record: dict[str, Any], page: Sequence[str]) -> None:
    """Writes the record as results.json and the page as README.md, and prints the page."""
    text = "\n".join(page) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(text, encoding="utf-8")
    print(text)

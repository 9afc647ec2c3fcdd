"""The layers of a trained net as the page shows them: those of one pattern and one fate in one row."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from netweight.evidence._numbers import percent
from netweight.evidence._run_input import RunInput


@dataclass(frozen=True)
class LayerGroup:
    """Layers whose names differ in numbers only, and that were treated alike."""

    pattern: str  # "blocks.0–9.attention.qkv"
    count: int
    kind: str
    shape: str
    weights: str
    quantized: bool
    what: str


@dataclass(frozen=True)
class LayersView:
    title: str
    words: str
    groups: tuple[LayerGroup, ...]


def layers(runs: Sequence[RunInput], titles: Sequence[str]) -> tuple[LayersView, ...]:
    """One view per run."""
    return tuple(_view(run, title) for run, title in zip(runs, titles, strict=True))


def _view(run: RunInput, title: str) -> LayersView:
    rows = run.training["layers"]
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        key = (re.sub(r"\d+", "#", row["name"]), row["kind"], tuple(row["shape"]), row["quantized"], row["reason"])
        groups.setdefault(key, []).append(row)
    made = [_group(found, run.recipe["qat"]["use"]) for found in groups.values()]
    rounded = [row for row in rows if row["quantized"]]
    share = sum(map(_weights, rounded)) / max(sum(map(_weights, rows)), 1)
    words = f"{len(rounded)} of {len(rows)} layers are rounded; they hold {percent(share)} of the layers’ weights."
    return LayersView(title, words, tuple(sorted(made, key=lambda group: not group.quantized)))


def _group(rows: Sequence[Mapping[str, Any]], recipe: str) -> LayerGroup:
    first = rows[0]
    what = f"rounded by {recipe}" if first["quantized"] else first["reason"] or "reason not recorded"
    shape = " × ".join(map(str, first["shape"])) or ("no weight" if first["kind"] == "MatMul" else "not recorded")
    weights = f"{sum(map(_weights, rows)):,}"
    return LayerGroup(pattern([row["name"] for row in rows]), len(rows), first["kind"], shape, weights, first["quantized"], what)  # fmt: skip


def pattern(names: Sequence[str]) -> str:
    """One name for names that differ in numbers only: ``blocks.0–9.fc1``."""
    split = [re.split(r"(\d+)", name) for name in names]
    made = []
    for parts in zip(*split, strict=True):
        numbers = sorted({int(part) for part in parts}) if len(set(parts)) > 1 else []
        made.append(f"{numbers[0]}–{numbers[-1]}" if numbers else parts[0])
    return "".join(made)


def _weights(row: Mapping[str, Any]) -> int:
    return math.prod(row["shape"]) if row["shape"] else 0

"""Fold per-channel scales into whatever feeds layers, feed by feed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from netweight import formats, models
from netweight.compress import _observe
from netweight.compress._parallel import Pool
from netweight.compress._select import Plan
from netweight.models import Feed
from netweight.recipe import Step


def rescale(
    root: nn.Module,
    plan: Plan,
    feeds: Sequence[Feed],
    chosen: Mapping[str, nn.Module],
    modules: dict[str, nn.Module],
    run: _observe.Call,
    inputs: Sequence[Any],
    workers: Pool,
    notes: dict[str, list[str]],
) -> None:
    """Scales by statistics of the block as it came; ``notes`` gets a line for every layer that could not have any."""

    def steps_of(name: str) -> tuple[Step, ...]:
        return plan.assignments[name].rescaling if name in plan.assignments else ()

    wanted = [feed for feed in feeds if any(steps_of(name) for name in feed.layers if name in chosen)]
    folded = {name for feed in wanted for name in feed.layers}
    for name in chosen:
        if steps_of(name) and name not in folded:
            notes[name].append("no channel scales: nothing before it can take them up")
    groups = [_observe.Stage((feed.layers[0],)) for feed in wanted]
    seen = _observe.moments(groups, modules, run, inputs, workers) if groups else []
    for feed, stats in zip(wanted, seen, strict=True):
        steps = [step for step in steps_of(feed.layers[0]) if all(step in steps_of(name) for name in feed.layers)]
        if stats is None or not steps:
            for name in feed.layers:
                if name in notes:
                    notes[name].append("no channel scales: not every layer that reads the same input is selected")
            continue
        for step in steps:
            weights = {name: models.matrix_of(modules[name]) for name in feed.layers}
            format = formats.get(step.format) if step.format else None
            scale_I = step.plugin.rescale(weights, stats, format, step.settings)
            models.fold(root, feed, scale_I)
            stats = stats.scaled(scale_I)

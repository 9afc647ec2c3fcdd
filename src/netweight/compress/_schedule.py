"""A run of training steps as data - how many, at which rates, in which shape - and the optimizer that takes them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from netweight.compress._problem import Piece

Shape = Literal["constant", "linear", "cosine"]


@dataclass(frozen=True)
class Schedule:
    """One run of steps. ``rates`` by role; a role without one stays as it is."""

    steps: int
    rates: Mapping[str, float]
    shape: Shape = "constant"
    optimizer: Literal["adam", "sign"] = "adam"
    decay: Mapping[str, float] = field(default_factory=dict)
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # where a role's values are kept
    choose: bool = True  # keep the step with the least held-out loss, and not what came last


def share_at(schedule: Schedule, step: int) -> float:
    """Of the full rate, at this step."""
    done = step / schedule.steps
    if schedule.shape == "linear":
        return 1 - done
    return 0.5 * (1 + math.cos(math.pi * done)) if schedule.shape == "cosine" else 1.0


class Optimizer:
    """Adam, or steps of the gradient's sign; one rate for each role."""

    def __init__(self, groups: Sequence[tuple[list[Tensor], float, float]], kind: str) -> None:
        self.groups, self.kind = groups, kind
        self.leaves = [leaf for leaves, _, _ in groups for leaf in leaves]
        rows = [{"params": leaves, "lr": rate, "weight_decay": decay} for leaves, rate, decay in groups]
        self.adam = torch.optim.AdamW(rows, fused=True) if kind == "adam" else None

    def step(self, share: float) -> None:
        if self.adam is not None:
            for row, (_, rate, _) in zip(self.adam.param_groups, self.groups, strict=True):
                row["lr"] = rate * share
            self.adam.step()
            return
        with torch.no_grad():
            for leaves, rate, _ in self.groups:
                for leaf in leaves:
                    if leaf.grad is not None:
                        leaf.add_(torch.sign(leaf.grad), alpha=-rate * share)


def optimizer_of(pieces: Sequence[Piece], schedule: Schedule, share: float) -> Optimizer:
    """Of every leaf whose role has a rate, each once. ``share`` is taken of all rates."""
    by_role: dict[str, dict[int, Tensor]] = {role: {} for role in schedule.rates}
    for piece in pieces:
        for role, leaf in piece.trained.items():
            if role in by_role:
                by_role[role].setdefault(id(leaf), leaf)
    groups = [
        (list(leaves.values()), schedule.rates[role] * share, schedule.decay.get(role, 0.0))
        for role, leaves in by_role.items()
        if leaves
    ]
    return Optimizer(groups, schedule.optimizer)

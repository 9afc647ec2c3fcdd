"""Round one layer with the step that is meant for it, and measure what that did to it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from netweight import models
from netweight.compress._plugin import Moments, Solution
from netweight.compress._select import Assignment
from netweight.errors import CompressError, FormatError, NotFiniteError


@dataclass(frozen=True, eq=False)
class Done:
    """A rounded layer, and what the ledger says of it."""

    solution: Solution
    decoded: Any  # (O, I) until it is in place
    digest: str
    weight_error: float
    output_error: float | None
    samples: int
    notes: tuple[str, ...]


def solve(assignment: Assignment, module: nn.Module, stats: Moments | None, notes: tuple[str, ...]) -> Done:
    """The layer in its format.

    Raises:
      CompressError, FormatError, NotFiniteError: of the method, with the layer's name.
    """
    step, format = assignment.rounding, assignment.format
    if step is None or format is None:
        raise CompressError(f"{assignment.name}: no step rounds it")
    weight_OI = models.matrix_of(module)
    try:
        solution = step.plugin.solve(weight_OI, stats, format, step.settings)
        decoded = solution.qtensor.decode()
    except (CompressError, FormatError, NotFiniteError) as error:
        raise type(error)(f"{assignment.name}: {error}") from error
    return measured(solution, decoded, weight_OI, stats, notes)


def measured(
    solution: Solution, decoded: Tensor, weight_OI: Tensor, stats: Moments | None, notes: tuple[str, ...]
) -> Done:
    """A layer's result with what it did to the weight and, where statistics are at hand, to the output."""
    change = decoded - weight_OI.float()
    size = float(weight_OI.float().norm())
    output = stats.output_error(weight_OI) if stats else 0.0
    return Done(
        solution,
        decoded.to(weight_OI.dtype),
        digest_of(decoded),
        float(change.norm()) / size if size else float(change.norm()),
        # H is a sum of float32 products: an error of nearly zero may come out below it
        (max(0.0, stats.output_error(change)) / output) ** 0.5 if stats and output > 0 else None,
        stats.n if stats else 0,
        notes,
    )


def needs_moments(assignment: Assignment) -> bool:
    return assignment.rounding is not None and assignment.rounding.plugin.STATS == "moments"


def digest_of(tensor: Tensor) -> str:
    """SHA-256 of a tensor's float32 bytes."""
    return hashlib.sha256(tensor.detach().float().contiguous().numpy().data).hexdigest()

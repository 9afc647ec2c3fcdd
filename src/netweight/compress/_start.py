"""Where block methods begin: each layer's matrix and scales, from its range or from a search."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal, TypeVar

import torch
from torch import Tensor

from netweight import models
from netweight.compress import _ranges, mse_clip
from netweight.compress._plugin import Moments
from netweight.compress._problem import Piece, Problem
from netweight.formats import Format, Params, cast_scale, fit

P = TypeVar("P", bound=Piece)
Start = Literal["minmax", "mse", "output"]
SEARCH = mse_clip.Settings(lowest=0.4, tries=13)


def matrix(problem: Problem, name: str) -> Tensor:
    """(O, I) float32, a copy."""
    return models.matrix_of(problem.layer(name)).float().clone()


def ratio(weight_OI: Tensor, format: Format, start: Start, stats: Moments | None) -> Tensor | float:
    """What each block's range is shrunk by: nothing, or what gives the least weight or output error, (R, G)."""
    if start == "minmax":
        return 1.0
    error = _ranges.squared_error(format)
    if start == "output" and stats is not None:
        hessian = stats.hessian_II if stats.hessian_II.dim() == 2 else stats.hessian_II.mean(0)
        error = _ranges.block_output_error(format, hessian)
    return _ranges.best_ratio(weight_OI, format, mse_clip.ratios(SEARCH, format), error)


def params(weight_OI: Tensor, format: Format, start: Start, stats: Moments | None) -> Params:
    """Scales by min/max, or on the range with the least weight or output error; none of them is 0."""
    found = fit(weight_OI, format, ratio=ratio(weight_OI, format, start, stats))
    return positive(found, format)


def positive(found: Params, format: Format) -> Params:
    """The same with the least scale that can be stored in place of 0, which stands for a block of zeros."""
    return replace(
        found, scale_RG=torch.where(found.scale_RG > 0, found.scale_RG, cast_scale(found.scale_RG, found, format))
    )


def pieces(problem: Problem, start: Start, make: Callable[[str, Tensor, Moments | None], P]) -> list[P]:
    """One piece for each layer, made of its name, its matrix and, where the start asks for them, statistics of its input."""
    stats = problem.moments() if start == "output" else {}
    return list(problem.pool.map(lambda name: make(name, matrix(problem, name), stats.get(name)), problem.layers))


def as_parameter(problem: Problem, name: str, weight_OI: Tensor) -> dict[str, Tensor]:
    """The matrix under its parameter's name, laid out as the module stores it."""
    module = problem.layer(name)
    return {problem.parameter(name): models.stored_layout(module, weight_OI)}

"""Optimal transport between the projections of two clouds of rows, exact, on many lines at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

AT_ONCE = 1 << 22  # projected values of a cloud in memory at a time


class Lines(NamedTuple):
    """Some lines: where the sorted projections stand in the clouds, what they differ by, and how much each counts."""

    directions_KD: Tensor
    gap_KS: Tensor
    weight: Tensor | float  # (S,) or one for all
    at_y_KS: Tensor
    at_x_KS: Tensor


def steps(n: int, m: int) -> tuple[Tensor, Tensor, Tensor]:
    """Where the quantile functions of n and of m values step: the width of each stretch (S,), and the rank of both there."""
    ends = torch.cat([torch.arange(1, n + 1) * m, torch.arange(1, m + 1) * n]).unique()  # in units of 1 / (n m): exact
    begins = torch.cat([ends.new_zeros(1), ends[:-1]])
    return (ends - begins).double() / (n * m), begins // m, begins // n


def lines(y_ND: Tensor, x_MD: Tensor, directions_KD: Tensor) -> Iterator[Lines]:
    """The transports along all directions, as many at a time as fit."""
    n, m = len(y_ND), len(x_MD)
    weight: Tensor | float = 1 / n
    rank_y = rank_x = None
    if n != m:
        weight, rank_y, rank_x = (part.to(y_ND.device) for part in steps(n, m))
        weight = weight.to(y_ND.dtype)
    for part_KD in directions_KD.split(max(1, AT_ONCE // max(n, m))):
        y_KN, at_y = (part_KD @ y_ND.T).sort(-1)
        x_KM, at_x = (part_KD @ x_MD.T).sort(-1)
        if rank_y is not None and rank_x is not None:
            y_KN, at_y, x_KM, at_x = y_KN[:, rank_y], at_y[:, rank_y], x_KM[:, rank_x], at_x[:, rank_x]
        yield Lines(part_KD, y_KN - x_KM, weight, at_y, at_x)


def cost(gap: Tensor, order: int) -> Tensor:
    return gap.abs() if order == 1 else gap.square()


def slope(gap: Tensor, order: int) -> Tensor:
    return gap.sign() if order == 1 else 2 * gap


def slope_of_directions(y_ND: Tensor, x_MD: Tensor, directions_KD: Tensor, order: int) -> Tensor:
    """(K, D): gradient of each line's cost by its direction."""
    found = []
    for part in lines(y_ND, x_MD, directions_KD):
        push = slope(part.gap_KS, order) * part.weight
        y_KN = y_ND.new_zeros(len(push), len(y_ND)).scatter_add_(1, part.at_y_KS, push)
        x_KM = x_MD.new_zeros(len(push), len(x_MD)).scatter_add_(1, part.at_x_KS, push)
        found.append(y_KN @ y_ND - x_KM @ x_MD)
    return torch.cat(found)


class Distance(torch.autograd.Function):
    """Mean over lines of the cost of transport from y to x. The gradient by y is taken along with the value; x has none."""

    @staticmethod
    def forward(ctx: Any, y_ND: Tensor, x_MD: Tensor, directions_KD: Tensor, order: int) -> Tensor:
        total = y_ND.new_zeros((), dtype=torch.float64)
        slope_ND = torch.zeros_like(y_ND) if ctx.needs_input_grad[0] else None
        for part in lines(y_ND, x_MD, directions_KD):
            total += (cost(part.gap_KS, order) * part.weight).sum(dtype=torch.float64)
            if slope_ND is not None:
                push = slope(part.gap_KS, order) * part.weight
                slope_ND += (
                    y_ND.new_zeros(len(push), len(y_ND)).scatter_add_(1, part.at_y_KS, push).T @ part.directions_KD
                )
        ctx.slope_ND = None if slope_ND is None else slope_ND / len(directions_KD)
        return (total / len(directions_KD)).to(y_ND.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, None, None, None]:
        return (None if ctx.slope_ND is None else grads[0] * ctx.slope_ND), None, None, None

"""What a method sees of a layer's input, and what it gives back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from netweight.formats import QTensor
from netweight.models import Model

StatsKind = Literal["none", "moments", "block"]


@dataclass(frozen=True, eq=False)
class Moments:
    """Statistics of a stage's input rows x (tokens, or im2col pixels).

    ``hessian_II`` = (2/n) sum x x^T, the Hessian of the layer's mean squared output error; (C, I, I) where a
    convolution has C channel groups with inputs of their own. ``mean_abs_I``, ``max_abs_I`` likewise (C, I) there.
    """

    hessian_II: Tensor
    mean_abs_I: Tensor
    max_abs_I: Tensor
    n: int

    def parts(self, outputs: int) -> Iterator[tuple[slice, Tensor]]:
        """Rows of the weight that read the same inputs, with the (I, I) Hessian of those inputs."""
        hessians = self.hessian_II if self.hessian_II.dim() == 3 else self.hessian_II.unsqueeze(0)
        share = outputs // len(hessians)
        for index, hessian in enumerate(hessians):
            yield slice(index * share, (index + 1) * share), hessian

    def output_error(self, change_OI: Tensor) -> float:
        """tr(D H D^T), the mean squared output change times two, for a weight change D."""
        total = 0.0
        for rows, hessian in self.parts(change_OI.shape[0]):
            part = change_OI[rows].to(hessian.dtype)
            total += float(((part @ hessian) * part).sum())
        return total

    def scaled(self, scale_I: Tensor) -> Moments:
        """Statistics of x / s."""
        inverse = 1 / scale_I.double()
        return Moments(
            self.hessian_II * inverse.unsqueeze(-1) * inverse,
            (self.mean_abs_I / scale_I).float(),
            self.max_abs_I / scale_I,
            self.n,
        )


@dataclass(frozen=True, eq=False)
class Solution:
    """A layer in its format, with what a reader of the ledger must know. ``fallback``: not what the recipe asked for."""

    qtensor: QTensor
    notes: tuple[str, ...] = ()
    fallback: bool = False


@dataclass(frozen=True, eq=False)
class Rotated:
    """A model that computes the same with other weights, the layers whose weights are others, and notes on layers."""

    model: Model
    layers: tuple[str, ...]
    notes: Mapping[str, tuple[str, ...]]


class Accumulator:
    """Sums of a stage's input statistics, taken batch by batch in a fixed order."""

    def __init__(self) -> None:
        self._gram: Tensor | None = None
        self._sum_abs: Tensor | None = None
        self._max_abs: Tensor | None = None
        self.n = 0

    def add(self, batch: BatchSums) -> None:
        if self._gram is None or self._sum_abs is None or self._max_abs is None:
            self._gram, self._sum_abs, self._max_abs = batch.gram.double(), batch.sum_abs.double(), batch.max_abs
        else:
            self._gram += batch.gram
            self._sum_abs += batch.sum_abs
            self._max_abs = torch.maximum(self._max_abs, batch.max_abs)
        self.n += batch.n

    def moments(self) -> Moments | None:
        """None when no row was seen."""
        if self._gram is None or self._sum_abs is None or self._max_abs is None or not self.n:
            return None
        return Moments(self._gram * (2 / self.n), (self._sum_abs / self.n).float(), self._max_abs, self.n)


@dataclass(frozen=True, eq=False)
class BatchSums:
    """One batch's share: x^T x, sum |x|, max |x|, rows."""

    gram: Tensor
    sum_abs: Tensor
    max_abs: Tensor
    n: int

    @staticmethod
    def of(x: Tensor) -> BatchSums:
        """From input rows (T, I), or (C, T, I) of a grouped convolution."""
        x = x if x.dtype == torch.float64 else x.float()
        magnitude = x.abs()
        sum_abs, max_abs = magnitude.sum(-2), magnitude.amax(-2)
        del magnitude  # as large as x: not beside the product
        return BatchSums(x.mT @ x, sum_abs, max_abs, x.shape[-2])

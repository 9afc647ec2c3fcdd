"""Block-wise training of everything: weights, scales and zeros, through the quantizer.

The weight that is rounded is trained along with what rounds it; the gradient passes the rounding straight through. What is stored
are codes, scales and whole zeros of the format, as with any other method. It starts from scales found by a search of
ranges (``start``), where the original begins at min/max. Source: Chen et al., EfficientQAT, arXiv 2407.11062, phase 1.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from pydantic import Field
from torch import Tensor

from netweight.compress import _fake, _start
from netweight.compress._plugin import Moments, Solution
from netweight.compress._problem import BlockTraining, Piece, Problem, Reconstruction
from netweight.compress._schedule import Schedule
from netweight.compress._train import Trainer
from netweight.formats import Format, Params

SUMMARY = "train a block's weights, scales and zeros together against the original block"
STATS = "block"


class Settings(BlockTraining):
    epochs: int = Field(10, ge=1, description="passes over the calibration batches")
    weight_lr: float = Field(1e-3, ge=0, description="Adam's rate for weights")
    scale_lr: float = Field(
        1e-3, ge=0, description="Adam's rate for scales, as a share of each, and for zeros, in codes"
    )
    start: _start.Start = Field(
        "output", description="first scales: min/max, or the range with the least weight or output error"
    )


def steps(settings: Settings, batches: int) -> int:
    """Steps in all, for an estimate of the time and for training itself."""
    return settings.steps_in(settings.epochs, batches)


class _Layer(Piece):
    """``scale`` is trained as the logarithm of its ratio to the first scale, so that one rate suits all."""

    def __init__(self, problem: Problem, name: str, weight_OI: Tensor, params: Params, settings: Settings) -> None:
        self.problem, self.name, self.params = problem, name, params
        self.format: Format = problem.formats[name]
        self.trained = {"weight": weight_OI.requires_grad_()}
        if settings.scale_lr and self.format.scale != "e8m0":
            self.trained["scale"] = torch.zeros_like(params.scale_RG, requires_grad=True)
            if params.zero_RG is not None:
                self.trained["zero"] = params.zero_RG.clone().requires_grad_()

    def now(self) -> Params:
        """Params as they would be stored, differentiable."""
        if "scale" not in self.trained:
            return self.params
        scale = _fake.stored(self.params.scale_RG * self.trained["scale"].exp(), self.params, self.format)
        zero = self.trained.get("zero")
        return replace(
            self.params, scale_RG=scale, zero_RG=None if zero is None else _fake.stored_zero(zero, self.format)
        )

    def tensors(self) -> dict[str, Tensor]:
        value = _fake.fake_quantize(self.trained["weight"], self.now(), self.format)
        return _start.as_parameter(self.problem, self.name, value)

    @torch.no_grad()
    def solution(self) -> Solution:
        return Solution(_fake.quantized(self.trained["weight"], self.now(), self.format))


def reconstruct(problem: Problem, settings: Settings) -> Reconstruction:
    """Weights and params as trained, rounded.

    Raises: CompressError: no batches, or a loss that is not finite from the start.
    """

    def piece(name: str, weight_OI: Tensor, stats: Moments | None) -> _Layer:
        first = _start.params(weight_OI, problem.formats[name], settings.start, stats)
        return _Layer(problem, name, weight_OI, first, settings)

    trainer = Trainer(problem, _start.pieces(problem, settings.start, piece), settings)
    rates = {"weight": settings.weight_lr, "scale": settings.scale_lr, "zero": settings.scale_lr}
    trainer.phase(Schedule(steps(settings, len(trainer.train)), rates, shape="cosine"))
    return trainer.result()

"""SignRound: learn which way each weight is rounded, and where its group's range ends, by steps of the gradient's sign.

The code of a weight is round(w / s + v) with v in [-1/2, 1/2], so that it may move by one; the range's ends are shrunk by factors
in [0, 1]. Both take steps of one size, falling to nothing, in the direction of the gradient's sign; the step with the least loss
on held-out batches is kept. Between the uneven levels of small floats v counts in the distance of the two around the weight.
Source: Cheng et al., arXiv 2309.05516.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from netweight.compress import _clip, _fake, _start
from netweight.compress._plugin import Moments, Solution
from netweight.compress._problem import BlockTraining, Piece, Problem, Reconstruction
from netweight.compress._schedule import Schedule
from netweight.compress._train import Trainer
from netweight.formats import Format, Params

SUMMARY = "learn the rounding of each weight and the range of each group by signed gradient steps"
STATS = "block"


class Settings(BlockTraining):
    batch: int = Field(8, ge=1, description="calibration batches per step")
    iterations: int = Field(200, ge=1, description="steps")
    lr: float | None = Field(
        None, gt=0, description="first step of the rounding offsets, in codes; 1 / iterations if absent"
    )
    range_lr: float | None = Field(None, ge=0, description="first step of the range's factors; as `lr` if absent")
    start: _start.Start = Field(
        "minmax", description="first ranges: min/max, or those with the least weight or output error"
    )


def steps(settings: Settings, batches: int) -> int:
    """Steps in all."""
    return settings.iterations


def check(format: Format, settings: Settings) -> None:
    """Raises: FormatError: its scales cannot be learned."""
    _clip.check(format, "signround")


class _Layer(Piece):
    def __init__(self, problem: Problem, name: str, weight_OI: Tensor, ratio: Tensor | float) -> None:
        self.problem, self.name, self.weight_OI = problem, name, weight_OI
        self.format = problem.formats[name]
        self.range = _clip.Range(weight_OI, self.format)
        first = torch.ones_like(self.range.low_RG) * ratio
        self.trained = {"rounding": torch.zeros_like(weight_OI, requires_grad=True), "high": first.requires_grad_()}
        if self.range.both:
            self.trained["low"] = first.detach().clone().requires_grad_()

    def _moved(self) -> tuple[Tensor, Params]:
        params = self.range.params(self.trained.get("low", self.trained["high"]), self.trained["high"])
        return self.weight_OI + self.trained["rounding"] * _fake.gap(self.weight_OI, params, self.format), params

    def tensors(self) -> dict[str, Tensor]:
        weight, params = self._moved()
        return _start.as_parameter(self.problem, self.name, _fake.fake_quantize(weight, params, self.format))

    @torch.no_grad()
    def solution(self) -> Solution:
        return Solution(_fake.quantized(*self._moved(), self.format))


def reconstruct(problem: Problem, settings: Settings) -> Reconstruction:
    """Codes and ranges as learned.

    Raises: CompressError: no batches, or a loss that is not finite from the start.
    """

    def piece(name: str, weight_OI: Tensor, stats: Moments | None) -> _Layer:
        ratio = _start.ratio(weight_OI, problem.formats[name], settings.start, stats)
        return _Layer(problem, name, weight_OI, ratio)

    trainer = Trainer(problem, _start.pieces(problem, settings.start, piece), settings)
    rate = settings.lr or 1 / settings.iterations
    ends = rate if settings.range_lr is None else settings.range_lr
    bounds = {"rounding": (-0.5, 0.5), "low": (0.0, 1.0), "high": (0.0, 1.0)}
    trainer.phase(
        Schedule(
            settings.iterations,
            {"rounding": rate, "low": ends, "high": ends},
            shape="linear",
            optimizer="sign",
            bounds=bounds,
        )
    )
    return trainer.result()

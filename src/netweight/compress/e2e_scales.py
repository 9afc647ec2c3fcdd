"""Tune the scales of a rounded model end to end, by distillation from the original.

Codes and zeros stay as the steps before left them; each scale is multiplied with the exponential of what is trained, which begins
at 0. With ``norms`` the gains and biases of norms are trained too: they are stored as they are, so that this costs no bits. The loss compares outputs of the whole
model: logits of a language model. All of the model is in memory. Source: Chen et al., EfficientQAT, arXiv 2407.11062, phase 2, which
trains on the text itself; distillation here needs no more text than calibration has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from netweight.compress import _fake, _start
from netweight.compress._plugin import Solution
from netweight.compress._problem import Piece, Problem, Reconstruction, Training
from netweight.compress._schedule import Schedule
from netweight.compress._train import Trainer
from netweight.errors import CompressError
from netweight.formats import Params, QTensor

SUMMARY = "tune the scales of the whole rounded model by distillation from the original"
STATS = "block"


class Settings(Training):
    loss: str | dict[str, Any] = Field(
        "kl", validate_default=True, description="what is minimized, on logits: a name, or a table with its settings"
    )
    epochs: int = Field(2, ge=1, description="passes over the calibration batches")
    lr: float = Field(1e-3, gt=0, description="Adam's rate for the logarithms of scales")
    norms: bool = Field(False, description="train the gains and biases of norms too")
    norm_lr: float = Field(1e-3, gt=0, description="Adam's rate for those")


def steps(settings: Settings, batches: int) -> int:
    """Steps in all."""
    return settings.steps_in(settings.epochs, batches)


class _Rescaled(torch.autograd.Function):
    """Decode under a scale that is trained: the gradient of a scale is the sum of gradient times level over its block."""

    @staticmethod
    def forward(ctx, scale_RG, q):  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.q, ctx.shape = q, scale_RG.shape
        ctx.save_for_backward(scale_RG)
        return _fake.under(q, scale_RG.detach())

    @staticmethod
    def backward(ctx, gradient):  # pyright: ignore[reportIncompatibleMethodOverride]
        (scale_RG,) = ctx.saved_tensors
        value = _fake.under(ctx.q, scale_RG)
        return _fake.per_block(value.mul_(gradient), ctx.q.format, ctx.shape) / scale_RG, None


class _Scales(Piece):
    def __init__(self, problem: Problem, name: str, q: QTensor) -> None:
        self.problem, self.name = problem, name
        self.q = QTensor(q.codes, _start.positive(q.params, q.format), q.format)
        self.trained = {"scale": torch.zeros_like(self.q.scale, requires_grad=True)}

    def _scale(self) -> Tensor:
        return _fake.stored(self.q.scale * self.trained["scale"].exp(), self.q.params, self.q.format)

    def tensors(self) -> dict[str, Tensor]:
        value: Tensor = _Rescaled.apply(self._scale(), self.q)  # pyright: ignore[reportAssignmentType]
        return _start.as_parameter(self.problem, self.name, value)

    @torch.no_grad()
    def solution(self) -> Solution:
        params: Params = replace(self.q.params, scale_RG=self._scale().detach())
        return Solution(QTensor(self.q.codes, params, self.q.format))


class _Norm(Piece):
    """Gain and bias of a norm, as they are."""

    def __init__(self, path: str, module: nn.Module) -> None:
        self.path = path
        self.trained = {
            f"norm {name}": value.detach().clone().requires_grad_()
            for name, value in module.named_parameters(recurse=False)
        }

    def tensors(self) -> dict[str, Tensor]:
        return {f"{self.path}.{role.removeprefix('norm ')}": leaf for role, leaf in self.trained.items()}


def transform(problem: Problem, qtensors: Mapping[str, QTensor], settings: Settings) -> Reconstruction:
    """Every layer with its scales as tuned.

    Raises: CompressError: scales that cannot be trained, a loss that is not finite, no batches.
    """
    for name, q in qtensors.items():
        if q.format.scale == "e8m0":
            raise CompressError(
                f"{name}: the scales of {q.format.name} are powers of two and cannot be trained; leave it out by `skip`"
            )
    pieces: list[Piece] = [_Scales(problem, name, q) for name, q in qtensors.items()]
    if settings.norms:
        found = (
            (name, module) for name, module in problem.module.named_modules() if "norm" in type(module).__name__.lower()
        )
        pieces += [_Norm(name, module) for name, module in found if any(True for _ in module.parameters(recurse=False))]
    trainer = Trainer(problem, pieces, settings)
    rates = {"scale": settings.lr, "norm weight": settings.norm_lr, "norm bias": settings.norm_lr}
    trainer.phase(Schedule(steps(settings, len(trainer.train)), rates, shape="cosine"))
    return trainer.result()

"""TesseraQ: learn for each weight which of the two nearest levels it takes, hardening ever more of them, and tune the scales.

A weight lies between two levels of the grid; it takes the lower one plus h(nu) of the way to the upper one, h(nu) = clip(1.2 sigmoid(nu) - 0.1, 0, 1), which
begins where the weight lies. Then, for each share tau of ``soft``: those whose h is farthest from 1/2 are fixed to 0 or 1, until only
tau of each layer is soft; and the soft ones are trained for some steps. Meanwhile each group's scale is tuned by a factor 2 sigmoid(r)
that acts on the decoded value only, so that the levels to choose between stay as they were. Nothing is soft in the end.

Ranges come from a search (``start``) where the paper takes AWQ's; an ``awq`` step before this one folds its channel scales in first.
Source: Li and Panda, arXiv 2410.19103.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from pydantic import Field, field_validator
from torch import Tensor

from netweight.compress import _fake, _start
from netweight.compress._plugin import Moments, Solution
from netweight.compress._problem import BlockTraining, Piece, Problem, Reconstruction
from netweight.compress._schedule import Schedule
from netweight.compress._train import Trainer
from netweight.formats import Format, Params, QTensor, encode

SUMMARY = "learn the rounding of each weight, hardening it step by step, and tune scales"
STATS = "block"
HARD = 20.0  # a nu whose h is 0 or 1 and has no gradient


class Settings(BlockTraining):
    soft: tuple[float, ...] = Field(
        (0.8, 0.6, 0.4, 0.25, 0.15, 0.08, 0.03, 0.005), description="shares of the weights still soft, stage by stage"
    )
    iterations: int = Field(50, ge=1, description="steps per stage")
    lr: float = Field(1e-2, gt=0, description="Adam's rate for the rounding")
    scale_lr: float = Field(1e-3, ge=0, description="Adam's rate for the tuning of scales; 0 leaves them")
    scale_decay: float = Field(1e-4, ge=0, description="weight decay of the tuning of scales")
    start: _start.Start = Field("output", description="ranges: min/max, or those with the least weight or output error")

    @field_validator("soft", mode="before")
    @classmethod
    def _as_tuple(cls, value: object) -> object:
        return tuple(value) if isinstance(value, list) else value

    @field_validator("soft")
    @classmethod
    def _falling(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value or any(not 0 <= share < 1 for share in value) or list(value) != sorted(value, reverse=True):
            raise ValueError("must be shares below 1, falling")
        return value


def steps(settings: Settings, batches: int) -> int:
    """Steps in all."""
    return len(settings.soft) * settings.iterations


class _Soft(torch.autograd.Function):
    """h(nu), with its gradient in few passes over memory."""

    @staticmethod
    def forward(ctx, nu):  # pyright: ignore[reportIncompatibleMethodOverride]
        h = torch.sigmoid(nu).mul_(1.2).sub_(0.1).clamp_(0, 1)
        ctx.save_for_backward(h)
        return h

    @staticmethod
    def backward(ctx, gradient):  # pyright: ignore[reportIncompatibleMethodOverride]
        (h,) = ctx.saved_tensors
        s = (h + 0.1).div_(1.2)
        slope = s.mul_(1 - s).mul_(1.2)
        return slope.mul_((h * (1 - h)).sign_()).mul_(gradient)  # 0 where h is clipped


def soft(nu: Tensor) -> Tensor:
    """h(nu) = clip(1.2 sigmoid(nu) - 0.1, 0, 1)."""
    return _Soft.apply(nu)  # pyright: ignore[reportReturnType]


class _Layer(Piece):
    def __init__(self, problem: Problem, name: str, weight_OI: Tensor, params: Params) -> None:
        self.problem, self.name, self.params = problem, name, params
        self.format: Format = problem.formats[name]
        self.shape = (weight_OI.shape[0], weight_OI.shape[1])
        lower, gap = _fake.around(weight_OI, params, self.format)  # in units of the scale
        unit = _fake.unit(params, self.format, self.shape)
        share = ((weight_OI / unit - lower) / gap.clamp(min=1e-30)).clamp(0, 1)
        self.lower, self.gap = lower, gap
        self.trained = {"rounding": torch.logit((share + 0.1) / 1.2).requires_grad_()}
        if self.format.scale != "e8m0":
            self.trained["scale"] = torch.zeros_like(params.scale_RG, requires_grad=True)

    def _scaled(self) -> Params:
        if "scale" not in self.trained:
            return self.params
        tuned = self.params.scale_RG * 2 * self.trained["scale"].sigmoid()
        return replace(self.params, scale_RG=_fake.stored(tuned, self.params, self.format))

    def tensors(self) -> dict[str, Tensor]:
        levels = torch.addcmul(self.lower, soft(self.trained["rounding"]), self.gap)
        value = levels * _fake.unit(self._scaled(), self.format, self.shape)
        return _start.as_parameter(self.problem, self.name, value)

    @torch.no_grad()
    def harden(self, share: float) -> None:
        """Fix those farthest from undecided, until this share is soft."""
        nu = self.trained["rounding"]
        h = soft(nu)
        score = (h - 0.5).abs().flatten()
        keep = int(share * score.numel())
        bound = score.kthvalue(keep).values if keep else -1.0
        fixed = (score > bound).reshape(nu.shape).float()
        nu.lerp_((h - 0.5).sign_().mul_(HARD), fixed)
        if not keep:
            nu.copy_(torch.where(nu >= 0, HARD, -HARD))

    @torch.no_grad()
    def solution(self) -> Solution:
        """The level each weight leans to, under the tuned scales."""
        up = (soft(self.trained["rounding"]) >= 0.5).float()
        value = (self.lower + up * self.gap) * _fake.unit(self.params, self.format, self.shape)
        codes = encode(value, self.params, self.format).codes
        return Solution(QTensor(codes, self._scaled(), self.format))


def reconstruct(problem: Problem, settings: Settings) -> Reconstruction:
    """Codes as hardened, scales as tuned.

    Raises: CompressError: no batches, or a loss that is not finite from the start.
    """

    def piece(name: str, weight_OI: Tensor, stats: Moments | None) -> _Layer:
        first = _start.params(weight_OI, problem.formats[name], settings.start, stats)
        return _Layer(problem, name, weight_OI, first)

    pieces = _start.pieces(problem, settings.start, piece)
    trainer = Trainer(problem, pieces, settings)
    first = [layer.trained["rounding"].detach().clone() for layer in pieces]
    for layer in pieces:
        layer.harden(0)
    trainer.from_here()  # round to nearest
    with torch.no_grad():
        for layer, rounding in zip(pieces, first, strict=True):
            layer.trained["rounding"].copy_(rounding)
    rates = {"rounding": settings.lr, "scale": settings.scale_lr}
    for share in settings.soft:
        for layer in pieces:
            layer.harden(share)
        trainer.phase(Schedule(settings.iterations, rates, decay={"scale": settings.scale_decay}, choose=False))
    for layer in pieces:
        layer.harden(0)
    trainer.to_here()
    return trainer.result()

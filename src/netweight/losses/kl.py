"""Kullback-Leibler divergence of softmax(prediction) from softmax(target), nat, mean over rows: a loss for logits."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import Tensor
from torch.autograd.function import once_differentiable

from netweight.settings import Settings as Base

SUMMARY = "KL(target || prediction) of softmaxes, mean over tokens"
CHUNK = 1 << 20  # logits at a time, so that what is in between stays in the caches


class Settings(Base):
    temperature: float = Field(1.0, gt=0, description="logits are divided by it; the loss is multiplied by its square")


class _Divergence(torch.autograd.Function):
    """Of each row. The gradient is computed on the way: one array of the logits' size is kept, where autograd would keep four."""

    @staticmethod
    def forward(ctx: Any, prediction_RC: Tensor, target_RC: Tensor, temperature: float) -> Tensor:
        slope_RC = torch.empty_like(prediction_RC) if ctx.needs_input_grad[0] else None
        value_R = prediction_RC.new_empty(len(prediction_RC))
        step = max(1, CHUNK // prediction_RC.shape[1])
        for first in range(0, len(prediction_RC), step):
            at = slice(first, first + step)
            log_p, log_q = ((x[at] / temperature).log_softmax(-1) for x in (prediction_RC, target_RC))
            q = log_q.exp()
            value_R[at] = (log_q.sub_(log_p).mul_(q)).sum(-1)
            if slope_RC is not None:
                torch.sub(log_p.exp_(), q, out=slope_RC[at])
        if slope_RC is not None:
            ctx.save_for_backward(slope_RC.div_(temperature))
        return value_R

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_R: Tensor) -> tuple[Tensor, None, None]:
        (slope_RC,) = ctx.saved_tensors
        return slope_RC * gradient_R[:, None], None, None


def loss(prediction: Tensor, target: Tensor, settings: Settings, generator: torch.Generator) -> Tensor:
    """Of logits (..., C) to logits of the same shape; the target has no gradient."""
    channels, temperature = prediction.shape[-1], settings.temperature
    value_R = _Divergence.apply(prediction.reshape(-1, channels), target.reshape(-1, channels), temperature)
    return value_R.mean() * temperature**2  # pyright: ignore[reportAttributeAccessIssue]

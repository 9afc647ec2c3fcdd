"""One minus the cosine of each row's angle to its target, mean over rows; blind to a row's length."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from netweight.settings import Settings as Base

SUMMARY = "one minus the cosine to the target, mean over tokens"


class Settings(Base):
    eps: float = Field(1e-12, gt=0, description="least product of two lengths that is divided by")


def loss(prediction: Tensor, target: Tensor, settings: Settings, generator: torch.Generator) -> Tensor:
    lengths = prediction.norm(dim=-1) * target.norm(dim=-1)
    return (1 - (prediction * target).sum(-1) / lengths.clamp_min(settings.eps)).mean()

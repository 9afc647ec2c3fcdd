"""Mean absolute error over all entries."""

from __future__ import annotations

import torch
from torch import Tensor

from netweight.settings import Settings as Base

SUMMARY = "mean absolute error over all entries"


class Settings(Base):
    pass


def loss(prediction: Tensor, target: Tensor, settings: Settings, generator: torch.Generator) -> Tensor:
    return (prediction - target).abs().mean()

"""Mean squared error over all entries; the block loss of OmniQuant (arXiv 2308.13137)."""

from __future__ import annotations

import torch
from torch import Tensor

from netweight.settings import Settings as Base

SUMMARY = "mean squared error over all entries"


class Settings(Base):
    pass


def loss(prediction: Tensor, target: Tensor, settings: Settings, generator: torch.Generator) -> Tensor:
    return (prediction - target).square().mean()

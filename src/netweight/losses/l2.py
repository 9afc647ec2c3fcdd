"""Squared Euclidean distance of rows, mean over rows: D times ``mse``; the block loss of TesseraQ (arXiv 2410.19103)."""

from __future__ import annotations

import torch
from torch import Tensor

from netweight.settings import Settings as Base

SUMMARY = "squared Euclidean distance, mean over tokens"


class Settings(Base):
    pass


def loss(prediction: Tensor, target: Tensor, settings: Settings, generator: torch.Generator) -> Tensor:
    return (prediction - target).square().sum(-1).mean()

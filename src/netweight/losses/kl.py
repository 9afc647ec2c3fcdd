"""Kullback-Leibler divergence of softmax(prediction) from softmax(target), nat, mean over rows: a loss for logits."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from netweight.settings import Settings as Base

SUMMARY = "KL(target || prediction) of softmaxes, mean over tokens"


class Settings(Base):
    temperature: float = Field(1.0, gt=0, description="logits are divided by it; the loss is multiplied by its square")


def loss(prediction: Tensor, target: Tensor, settings: Settings, generator: torch.Generator) -> Tensor:
    log_p = (prediction / settings.temperature).log_softmax(-1)
    log_q = (target / settings.temperature).log_softmax(-1)
    return (log_q.exp() * (log_q - log_p)).sum(-1).mean() * settings.temperature**2

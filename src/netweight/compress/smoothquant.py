"""SmoothQuant: move outliers from activations into weights, channel by channel, before rounding.

s_j = max|X_j|^strength / max|W_j|^(1 - strength): the source's channel j is divided by s_j and the layers' column j multiplied.
Rescales only: a rounding step must follow. Source: Xiao et al., arXiv 2211.10438, equation 4.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from netweight.compress._plugin import Moments
from netweight.formats import Format
from netweight.settings import Settings as Base

SUMMARY = "migrate activation outliers into the weights (rescales; a rounding step must follow)"
STATS = "moments"
FLOOR = 1e-5


class Settings(Base):
    strength: float = Field(0.5, ge=0, le=1, description="share of the outliers moved into the weights (alpha)")


@torch.no_grad()
def rescale(weights: dict[str, Tensor], stats: Moments, format: Format | None, settings: Settings) -> Tensor:
    """(I,) factors for the columns of these weights, float32."""
    activation = stats.max_abs_I.float().clamp(min=FLOOR)
    columns = torch.stack([w.float().abs().amax(0) for w in weights.values()]).amax(0).clamp(min=FLOOR)
    return (activation**settings.strength / columns ** (1 - settings.strength)).clamp(min=FLOOR)

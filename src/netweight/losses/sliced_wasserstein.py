"""Sliced Wasserstein distance of two clouds of rows: what their projections on lines differ by, mean over lines.

For a direction u of unit length, a = Y u and b = Y' u are sorted, and the k-th smallest of one is compared with the k-th
smallest of the other: the exact one-dimensional optimal transport. Order 1 is the mean of |a - b|, order 2 that of
(a - b)^2, without a root. Rows may be tokens or runs of ``group`` tokens laid end to end. The two clouds may differ in size: then
the two quantile functions are compared on the union of their steps. Source: arXiv 2601.07878, its loss of order 1.

It looks at distributions only: any permutation of the rows of either cloud leaves it as it is. Its gradient is computed along
with the value, a few directions at a time, so that memory stays at that of the clouds, whatever the number of directions.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from netweight.errors import SettingsError
from netweight.losses import _directions
from netweight.losses._transport import Distance
from netweight.settings import Settings as Base

SUMMARY = "distance of the distributions of outputs, by projections on lines"


class Settings(Base):
    projections: int = Field(128, ge=1, description="directions")
    order: Literal[1, 2] = Field(1, description="1: mean absolute difference of quantiles; 2: mean squared")
    group: int = Field(1, ge=1, description="tokens laid end to end to make one row; must divide a window")
    directions: Literal["gaussian", "orthogonal", "principal", "channels", "max"] = Field(
        "gaussian",
        description="uniform on the sphere; the same in orthogonal sets; in the span of the target's principal components; "
        "within runs of channels; those of them, after some ascent, where the clouds differ most",
    )
    rank: int = Field(64, ge=1, description='principal components, for directions = "principal"')
    channels: int = Field(64, ge=1, description='channels of a run, for directions = "channels"')
    ascent: int = Field(8, ge=1, description='steps of the ascent, for directions = "max"')


def loss(prediction: Tensor, target: Tensor, settings: Settings, generator: torch.Generator) -> Tensor:
    """Scalar distance of (..., T, D) and (..., T', D).

    Raises:
      SettingsError: widths differ, or ``group`` does not divide T.
    """
    y_ND, x_MD = _rows(prediction, settings.group), _rows(target.detach(), settings.group)
    if y_ND.shape[-1] != x_MD.shape[-1]:
        raise SettingsError(
            f"sliced_wasserstein: rows of {y_ND.shape[-1]} and of {x_MD.shape[-1]} numbers cannot be compared"
        )
    directions_KD = _directions.draw(y_ND.detach(), x_MD, settings, generator)
    return Distance.apply(y_ND, x_MD, directions_KD, settings.order)  # pyright: ignore[reportReturnType]


def _rows(x: Tensor, group: int) -> Tensor:
    if group == 1:
        return x.reshape(-1, x.shape[-1])
    if x.dim() < 2 or x.shape[-2] % group:
        raise SettingsError(
            f"sliced_wasserstein: group = {group} does not divide the {x.shape[-2]} tokens of a window; choose one that does, or 1"
        )
    return x.reshape(-1, group * x.shape[-1])

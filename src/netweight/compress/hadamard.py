"""Rotate the model into one that computes the same and has no channels that stand out, before anything is rounded.

A group that holds one weight far larger than the others gets a scale that fits none of them. Orthogonal matrices of equal entries
(Hadamard's, with random signs) spread it over all channels, and all of them go into the weights: the result is a model like any
other, as large and as fast. What the method adds while the model runs (rotated activations and caches) is left out here: it
serves formats of activations. Source: Ashkboos et al., QuaRot, arXiv 2404.00456, section 4: the
rotation of the residual stream, and of the values the part that goes into the weights.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from netweight import models
from netweight.compress._plugin import Rotated
from netweight.errors import SettingsError
from netweight.models import Model
from netweight.settings import Settings as Base

SUMMARY = "rotate the residual stream and attention's heads, so that no channel stands out; rounds nothing"


class Settings(Base):
    residual: bool | Literal["auto"] = Field(
        "auto", description="rotate the residual stream: true, false, or auto: where the model lets it be rotated"
    )
    heads: bool = Field(True, description="rotate the values of every attention head")
    untie: bool = Field(
        False, description="write a head of its own where it shares the embedding's weight, which residual needs"
    )

    @field_validator("heads")
    @classmethod
    def _something(cls, value: bool, info: ValidationInfo) -> bool:
        if not value and info.data.get("residual") is False:
            raise ValueError("with residual = false nothing is left to rotate; leave the step out")
        return value

    @field_validator("untie")
    @classmethod
    def _of_use(cls, value: bool, info: ValidationInfo) -> bool:
        if value and info.data.get("residual") is False:
            raise ValueError("only residual needs it, which is false; leave untie out")
        return value


def rotate(model: Model, settings: Settings, seed: int) -> Rotated:
    """The rotated model; where ``auto`` left the residual stream as it was, the ledger's first layer says why.

    Raises:
      SettingsError: the model cannot be rotated as the settings ask, or not at all.
      ModelError: it is not built as its family's row says.
    """
    stream, inside = models.residual_obstacle(model, untie=settings.untie), models.heads_obstacle(model)
    if stream and inside and settings.residual is not False:
        raise SettingsError(f"hadamard: nothing of {model.name} can be rotated: {stream}; leave the step out")
    if settings.heads and inside:
        raise SettingsError(f"hadamard: the heads of {model.name} cannot be rotated: {inside}; set heads = false")
    cost = _cost(model) if stream else ""
    if stream and (settings.residual is True or not settings.heads):
        asked = "residual = true" if settings.residual is True else "heads = false"
        raise SettingsError(
            f"hadamard: the residual stream of {model.name} cannot be rotated, as {asked} asks: {stream}; "
            + (f"set untie = true ({cost}), or" if cost else "set")
            + ' residual = "auto" and heads = true, which rotate the heads alone'
        )
    residual = settings.residual is not False and not stream
    found = models.rotate(model, residual=residual, heads=settings.heads, untie=settings.untie, seed=seed)
    if residual or settings.residual is False:
        return Rotated(found.model, tuple(found.layers), {})
    note = f"hadamard: the residual stream is not rotated: {stream}" + (f" (untie = true: {cost})" if cost else "")
    return Rotated(found.model, tuple(found.layers), {next(iter(models.layers(model))): (note,)})


def _cost(model: Model) -> str:
    """What untying would take, in words; "" where it would not help."""
    if models.residual_obstacle(model, untie=True):
        return ""
    return f"a head of its own takes {models.head_bytes(model):,} bytes"

"""A loss from what a recipe says: one loss, or a base loss with a sliced-Wasserstein term beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from netweight import registry, settings
from netweight.errors import SettingsError

SW = "sliced_wasserstein"
ALIASES = {"sw": SW}
Scaling = Literal["fixed", "self"]


class Weights(settings.Settings):
    sw: float = Field(0.1, ge=0, description="weight of the sliced-Wasserstein term")
    base: float | None = Field(None, ge=0, description="weight of the other term; 1 - sw if absent")
    scaling: Scaling = Field(
        "fixed",
        description="fixed: the terms as they are; self: the sliced-Wasserstein term times what makes both terms equal at the "
        "first step, since one is of degree 1 in the error and the other of degree 2",
    )


@dataclass(frozen=True)
class Terms:
    """One step's loss, and what it is made of, before weights."""

    total: Tensor
    parts: Mapping[str, float]


@dataclass
class Loss:
    """``loss(prediction, target, generator)``. ``factor`` is what self-scaling found; it belongs to one run of steps."""

    name: str
    terms: tuple[tuple[str, ModuleType, Any], ...]
    weights: Weights | None = None
    factor: float | None = field(default=None, compare=False)

    def __call__(self, prediction: Tensor, target: Tensor, generator: torch.Generator) -> Terms:
        terms = self._counted()
        values = [module.loss(prediction, target, chosen, generator) for _, module, chosen in terms]
        parts = {name: float(value.detach()) for (name, _, _), value in zip(terms, values, strict=True)}
        weights = self.weights
        if weights is None or len(values) == 1:
            return Terms(values[0], parts)
        base, sw = values
        if self.factor is None:
            first, second = float(base.detach()), float(sw.detach())
            self.factor = first / second if weights.scaling == "self" and first > 0 and second > 0 else 1.0
        return Terms(_base_weight(weights) * base + weights.sw * self.factor * sw, parts)

    def _counted(self) -> tuple[tuple[str, ModuleType, Any], ...]:
        """With sw = 0 the base loss alone, so that it is the base method bit for bit."""
        return self.terms[:1] if self.weights is not None and self.weights.sw == 0 else self.terms

    def begun(self) -> Loss:
        """The same loss for another run of steps."""
        return Loss(self.name, self.terms, self.weights)


def make(table: Mapping[str, Any] | str, where: str = "loss") -> Loss:
    """From ``"mse"``, ``{use = "kl", temperature = 2.0}`` or ``{use = "mse+sw", sw = 0.1, projections = 128}``.

    Raises:
      UnknownName: no such loss; the nearest is named.
      SettingsError: a setting that it has not, or two terms of which none is sliced Wasserstein.
    """
    given = {"use": table} if isinstance(table, str) else dict(table)
    use = given.pop("use", None)
    if not isinstance(use, str):
        raise SettingsError(f'{where}: use = "…" must name a loss')
    names = [ALIASES.get(name.strip(), name.strip()) for name in use.split("+")]
    modules = [registry.find("netweight.losses", name) for name in names]
    if len(names) == 1:
        return Loss(use, ((names[0], modules[0], settings.parse(modules[0].Settings, given, where)),))
    if len(names) > 2 or names[1] != SW or names[0] == SW:
        raise SettingsError(f'{where}: use = {use!r}: two terms are a base loss and "sw", as in "mse+sw"')
    weights = settings.parse(Weights, {key: given.pop(key) for key in Weights.model_fields if key in given}, where)
    kinds = [module.Settings.model_fields for module in modules]
    chosen = [settings.parse(modules[0].Settings, {k: given.pop(k) for k in list(given) if k in kinds[0]}, where)]
    chosen.append(settings.parse(modules[1].Settings, given, where))
    return Loss(use, tuple(zip(names, modules, chosen, strict=True)), weights)


def table(loss: Loss) -> dict[str, Any]:
    """What ``make`` makes this loss from, with every setting said."""
    found: dict[str, Any] = {"use": loss.name}
    for settings_of in (loss.weights, *(chosen for _, _, chosen in loss.terms)):
        if settings_of is not None:
            found |= settings_of.model_dump(mode="json", exclude_none=True)
    return found


def _base_weight(weights: Weights) -> float:
    return 1 - weights.sw if weights.base is None else weights.base

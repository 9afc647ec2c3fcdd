"""The step that rotates the model, where a recipe begins with one."""

from __future__ import annotations

from netweight import models
from netweight import recipe as recipes
from netweight.compress._plugin import Rotated
from netweight.compress._select import Plan
from netweight.models import Model
from netweight.recipe import Recipe


def rotated(model: Model, recipe: Recipe) -> Rotated:
    """What every other step is to work on: the model itself where no step rotates it.

    Raises: SettingsError: the model cannot be rotated as the step asks.
    """
    first = recipe.steps[0]
    if not recipes.rotates(first.plugin):
        return Rotated(model, (), {})
    return first.plugin.rotate(model, first.settings, recipe.seed)


def as_planned(model: Model, plan: Plan) -> Model:
    """A rotated model in which what no step rounds is as small as it was stored; any other model as it is."""
    rounded = (a.tied_to or name for name, a in plan.assignments.items() if a.rounding)
    return models.with_stored_types(model, frozenset(map(models.weight_name, rounded)))

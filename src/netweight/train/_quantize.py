"""Making a module's layers round as a recipe says, in place, and the handle on what was done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn

from netweight.errors import ModelError, SettingsError, nearest
from netweight.models import all_at_once, nets, one_by_one
from netweight.train._draws import Clock
from netweight.train._layers import ATTRIBUTE, PRODUCTS, become_plain, become_rounded, why_not
from netweight.train._product import Rounding
from netweight.train._qat import Qat, check, recipe
from netweight.words import counted


@dataclass(frozen=True)
class Row:
    """One layer with a product: quantized, or the reason why not."""

    name: str
    kind: str
    shape: tuple[int, ...]
    quantized: bool
    reason: str


class Quantized:
    """A module whose layers round. ``step`` is the optimizer step: set it before each, so that draws differ and a restart repeats them.

    Draws are a function of seed, step, layer, operand, and of how often the layer ran with gradients since the step was set. Two modules
    quantized with one seed draw alike where their layers have one name: give nets that are to differ, or to be averaged, a seed each. What
    gradient checkpointing runs a second time counts again, so a recipe whose forward product draws is not to be checkpointed.
    """

    def __init__(self, module: nn.Module, recipe: Qat, rows: tuple[Row, ...], clock: Clock) -> None:
        self.module, self.recipe, self.rows, self._clock = module, recipe, rows, clock

    def __repr__(self) -> str:
        left = sum(not row.quantized for row in self.rows)
        return f"<{self.recipe.name}: {counted(len(self.layers()), 'layer')} of {type(self.module).__name__} rounded, {left} left alone, step {self.step}>"

    @property
    def step(self) -> int:
        return self._clock.step

    @step.setter
    def step(self, step: int) -> None:
        self._clock.at(step)

    @property
    def seed(self) -> int:
        return self._clock.seed

    def layers(self) -> dict[str, nn.Module]:
        """The quantized layers by name."""
        return dict(_rounded(self.module))

    def weights(self) -> dict[str, nn.Module]:
        """Those of them that have a weight: all but products of two inputs."""
        return {name: layer for name, layer in self.layers().items() if not isinstance(layer, nets.MatMul)}

    def state_dict(self) -> dict[str, int]:
        """What a restart needs beside the module's own state."""
        return {"seed": self.seed, "step": self.step}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Raises: SettingsError: the state belongs to another seed."""
        if state["seed"] != self.seed:
            raise SettingsError(
                f"this state was drawn under seed {state['seed']}, but the module was quantized with {self.seed}"
            )
        self.step = state["step"]

    def undo(self) -> nn.Module:
        """The module as it was, with the weights it has now; learned scales are dropped."""
        for _, layer in _rounded(self.module):
            become_plain(layer)
        all_at_once(self.module)
        return self.module


def quantize(
    module: nn.Module,
    recipe_or_name: Qat | str,
    *,
    skip: str | Sequence[str] = (),
    attention: bool = False,
    seed: int = 0,
) -> Quantized:
    """Makes linear layers and convolutions round their products from now on, in place.

    Names in the state dict stay as they are; LSQ adds ``weight_scale``, ``input_scale`` and ``input_least``, so make the optimizer afterwards.
    Left alone, and listed with the reason: what ``skip`` names, layers with less than 16 channels per group on either side
    (among them depthwise ones), and classes that are not torch's own.

    Args:
      recipe_or_name: a ``Qat``, a row's name, or a TOML file.
      skip: patterns of dotted names, such as "head" or "decoder.*"; one that fits no layer is an error.
      attention: products of two inputs (``models.nets.MatMul``: queries with keys, probabilities with values) round too, both
        factors as the recipe rounds inputs.
    Raises:
      UnknownName: no such recipe. SettingsError: a pattern that fits nothing, a recipe that makes no sense.
      ModelError: the module is quantized already, or none of its layers can be.
    """
    if not isinstance(module, nn.Module):
        raise ModelError(f"quantize takes a module, not {module!r}; make one first")
    skip = [skip] if isinstance(skip, str) else skip
    row = recipe_or_name if isinstance(recipe_or_name, Qat) else recipe(recipe_or_name)
    check(row)
    if next(_rounded(module), None) is not None:
        raise ModelError("this module is quantized already; call undo() on what quantize() gave first")
    layers = {name: layer for name, layer in module.named_modules() if isinstance(layer, PRODUCTS)}
    for pattern in skip:
        if not any(fnmatchcase(name, pattern) for name in layers):
            raise SettingsError(f"skip = {pattern!r} fits no layer{nearest(pattern, layers)}")
    if attention and not any(isinstance(layer, nets.MatMul) for layer in layers.values()):
        raise ModelError("attention = true, but this module has no products of models.nets.MatMul; ViT and Swin have")
    clock = Clock(seed)
    rows = tuple(_row(name, layer, row, skip, clock, attention) for name, layer in layers.items())
    one_by_one(module, lambda layer: ATTRIBUTE in layer.__dict__)
    if row.rounds and not any(one.quantized for one in rows):
        reasons = "; ".join(f"{one.name}: {one.reason}" for one in rows[:3]) or "it has no linear layer or convolution"
        raise ModelError(f"{row.name}: no layer of this module can be quantized: {reasons}")
    return Quantized(module, row, rows, clock)


def handle(module: nn.Module) -> Quantized:
    """The handle of a quantized module that was copied or loaded whole. Its rows list only what is quantized.

    Raises: ModelError: the module is not quantized.
    """
    found = dict(_rounded(module))
    if not found:
        raise ModelError("this module is not quantized; call quantize() first")
    first: Rounding = getattr(next(iter(found.values())), ATTRIBUTE)
    rows = tuple(_described(name, layer, True, "") for name, layer in found.items())
    return Quantized(module, first.recipe, rows, first.clock)


def _rounded(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    return ((name, layer) for name, layer in module.named_modules() if ATTRIBUTE in layer.__dict__)


def _row(name: str, layer: nn.Module, recipe: Qat, skip: Sequence[str], clock: Clock, attention: bool) -> Row:
    pattern = next((pattern for pattern in skip if fnmatchcase(name, pattern)), None)
    reason = f"skipped by {pattern!r}" if pattern else why_not(layer)
    if reason is None and not recipe.rounds:
        reason = f"the recipe {recipe.name} rounds nothing"
    if reason is None and isinstance(layer, nets.MatMul):
        if not attention:
            reason = "a product of two inputs rounds only with attention = true"
        elif not recipe.between_inputs().rounds:
            reason = (
                f"the recipe {recipe.name} rounds weights, or learns scales, and a product of two inputs has neither"
            )
    described = _described(name, layer, reason is None, reason or "")
    if reason is None:
        become_rounded(layer, Rounding(name, recipe, clock))
    return described


def _described(name: str, layer: nn.Module, quantized: bool, reason: str) -> Row:
    weight = getattr(layer, "weight", None)
    return Row(name, type(layer).__name__, () if weight is None else tuple(weight.shape), quantized, reason)

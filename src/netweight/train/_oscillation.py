"""Weights that jump between two neighbours of the grid while hardly moving are put into the middle of their bin.

With Q the forward product's rounding, over a window of steps d_Q = sum |Q(w_t) - Q(w_t-1)| and d_w = sum |w_t - w_t-1|; where
d_Q / d_w reaches the threshold, w becomes Q(w). Source: TetraJet-v2, arXiv 2510.27527, "OsciReset".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from netweight.errors import SettingsError
from netweight.train._layers import forward_weight
from netweight.train._qat import Reset
from netweight.train._quantize import Quantized


@dataclass
class _Watch:
    """One weight in a window: where it was, what it rounded to, and how far both have moved."""

    weight: Tensor
    value: Tensor
    moved: Tensor
    jumped: Tensor


class OscillationReset:
    """Call ``after_step()`` after each optimizer step. Its state belongs into a checkpoint.

    ``shares``: of each layer's weights, those that oscillated in the last window that ended.
    """

    def __init__(self, quantized: Quantized, reset: Reset | None = None, *, watch_only: bool = False) -> None:
        """``reset``: by default the recipe's own. ``watch_only``: shares are counted, weights stay where they are.

        Raises: SettingsError: neither has a reset, or its window is longer than a period.
        """
        reset = reset or quantized.recipe.reset
        if reset is None:
            raise SettingsError(
                f"the recipe {quantized.recipe.name} has no reset of oscillating weights; pass reset=Reset(…)"
            )
        if reset.window >= reset.every:
            raise SettingsError(f"reset: window = {reset.window} must be less than every = {reset.every}")
        self.quantized, self.reset, self.watch_only = quantized, reset, watch_only
        self.steps = 0
        self.shares: dict[str, float] = {}
        self._watched: dict[str, _Watch] = {}

    @torch.no_grad()
    def after_step(self) -> int:
        """How many weights were set to their rounded value."""
        self.steps += 1
        since = self.steps - self.reset.start
        if since < 0:
            return 0
        phase = since % self.reset.every
        layers = self.quantized.weights()
        if phase == 0:
            self._watched = {name: _begin(layer) for name, layer in layers.items()}
        elif self._watched:
            for name, watch in self._watched.items():
                _follow(watch, layers[name])
            if phase == self.reset.window:
                return self._settle(layers)
        return 0

    def _settle(self, layers: dict[str, nn.Module]) -> int:
        count = 0
        for name, watch in self._watched.items():
            where = oscillating(watch.jumped, watch.moved, self.reset.threshold)
            weight: Tensor = layers[name].weight  # pyright: ignore[reportAssignmentType]
            found = int(where.sum())
            self.shares[name] = found / where.numel()
            if not self.watch_only:
                weight.copy_(torch.where(where, watch.value, weight))
                count += found
        self._watched = {}
        return count

    def state_dict(self) -> dict[str, Any]:
        """The steps seen, the last shares and the window in progress."""
        return {
            "steps": self.steps,
            "shares": dict(self.shares),
            "watched": {name: dict(vars(watch)) for name, watch in self._watched.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps, self.shares = state["steps"], dict(state["shares"])
        there = {name: layer.weight.device for name, layer in self.quantized.weights().items()}
        self._watched = {
            name: _Watch(**{key: value.clone().to(there[name]) for key, value in watch.items()})  # pyright: ignore[reportArgumentType, reportCallIssue]
            for name, watch in state["watched"].items()
        }


def oscillating(jumped: Tensor, moved: Tensor, threshold: float) -> Tensor:
    """Where the rounded weight went ``threshold`` times as far as the weight."""
    return (jumped > 0) & (jumped >= threshold * moved)


def _begin(layer: nn.Module) -> _Watch:
    weight: Tensor = layer.weight.detach().clone()  # pyright: ignore[reportAssignmentType, reportCallIssue]
    return _Watch(weight, forward_weight(layer), torch.zeros_like(weight), torch.zeros_like(weight))


def _follow(watch: _Watch, layer: nn.Module) -> None:
    weight: Tensor = layer.weight.detach()  # pyright: ignore[reportAssignmentType, reportCallIssue]
    value = forward_weight(layer)
    watch.moved += (weight - watch.weight).abs()
    watch.jumped += (value - watch.value).abs()
    watch.weight.copy_(weight)
    watch.value = value

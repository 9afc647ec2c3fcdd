"""What the loop tells of every step: quantized layers, whose draws depend on it, and resets of oscillating weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from netweight.train._loop import Hook
from netweight.train._oscillation import OscillationReset
from netweight.train._quantize import Quantized


class _Draws:
    """Stochastic rounding draws by the step."""

    def __init__(self, quantized: Quantized) -> None:
        self.quantized = quantized

    def before(self, step: int) -> None:
        self.quantized.step = step

    def after(self, step: int) -> None:
        """Nothing to do."""

    def state_dict(self) -> dict[str, Any]:
        return dict(self.quantized.state_dict())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.quantized.load_state_dict(dict(state))


class _Resets:
    def __init__(self, quantized: Quantized) -> None:
        self.reset = OscillationReset(quantized)

    def before(self, step: int) -> None:
        """Nothing to do."""

    def after(self, step: int) -> None:
        self.reset.after_step()

    def state_dict(self) -> dict[str, Any]:
        return self.reset.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.reset.load_state_dict(dict(state))


def hooks(quantized: Quantized) -> list[Hook]:
    """What a quantized module needs to be told of."""
    found: list[Hook] = [_Draws(quantized)]
    return [*found, _Resets(quantized)] if quantized.recipe.reset is not None else found

"""Where chance comes from: a seed for every draw is a function of the run's seed, the step, the layer, the operand and the call."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field


@dataclass
class Clock:
    """The optimizer step that all layers of a net share, and how often each was run for training in it."""

    seed: int
    step: int = 0
    calls: dict[str, int] = field(default_factory=dict)

    def at(self, step: int) -> None:
        self.step = step
        self.calls.clear()

    def call(self, layer: str) -> int:
        """The number of this run of the layer within the step, from 0."""
        number = self.calls.get(layer, 0)
        self.calls[layer] = number + 1
        return number

    def seed_of(self, layer: str, role: str, step: int, call: int) -> int:
        """64 bits."""
        text = f"{self.seed}/{step}/{layer}/{role}/{call}"
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")

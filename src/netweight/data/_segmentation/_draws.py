"""Uniform numbers that belong to a sample, not to a moment: a function of seed, epoch and the sample's index alone.

SplitMix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators"): its finalizer mixes the three, and its
stream from there gives the numbers. So neither the batch, nor its order, nor what was drawn before can change them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

GOLDEN = 0x9E3779B97F4A7C15
MASK = (1 << 64) - 1
BITS = 24  # what a float32 in [0, 1) holds exactly


def uniforms(seed: int, epoch: int, indices_B: Sequence[int] | np.ndarray, count: int) -> np.ndarray:
    """(B, count) float32 in [0, 1)."""
    key = _mixed(_mixed(np.array([seed & MASK], np.uint64)) + np.uint64(epoch & MASK))
    key_B = _mixed(key + np.asarray(indices_B, np.int64).astype(np.uint64) * np.uint64(GOLDEN))
    steps = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(GOLDEN)
    bits = _mixed(key_B[:, None] + steps) >> np.uint64(64 - BITS)
    return (bits.astype(np.float64) * 2.0**-BITS).astype(np.float32)


def _mixed(values: np.ndarray) -> np.ndarray:
    """The finalizer: every bit of the result depends on every bit of the value."""
    values = (values + np.uint64(GOLDEN)).astype(np.uint64)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))

"""Noise for sampling, decided by a seed, a step and a token alone: the compiled library makes the same (``nw_sample``)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def mixed_bits(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Source: splitmix64, Steele, Lea and Flood, OOPSLA 2014."""
    with np.errstate(over="ignore"):
        x = x + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ x >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ x >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return x ^ x >> np.uint64(31)


def gumbel(count: int, seed: int, step: int) -> NDArray[np.float64]:
    """(N,) standard Gumbel noise: adding it to logits and taking the largest draws from their softmax.

    Source: E. Gumbel, "Statistical theory of extreme values", 1954; C. Maddison et al., "A* sampling", NeurIPS 2014.
    """
    stream = mixed_bits(mixed_bits(np.array([seed], dtype=np.uint64)) ^ np.uint64(step))
    with np.errstate(over="ignore"):
        bits = mixed_bits(stream + np.arange(count, dtype=np.uint64))
    uniform = ((bits >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    return -np.log(-np.log(uniform))

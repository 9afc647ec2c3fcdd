"""Small random layers with their input statistics, hard in the ways real ones are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from netweight import formats, registry
from netweight.compress import Moments

KINDS = ("plain", "correlated", "dead columns", "rank deficient", "outlier channel", "convolution", "one row")


def seeds(kind: str) -> range:
    """Enough problems to mean something in little time; a convolution is 144 columns and worth three others."""
    return range(1 if kind == "convolution" else 3)


@dataclass(frozen=True)
class Problem:
    """A weight and the inputs it was shown."""

    weight_OI: np.ndarray  # float32
    x_TI: np.ndarray  # float64

    @property
    def hessian_II(self) -> np.ndarray:
        return 2 / len(self.x_TI) * self.x_TI.T @ self.x_TI

    @property
    def mean_abs_I(self) -> np.ndarray:
        return np.abs(self.x_TI).mean(0)

    @property
    def max_abs_I(self) -> np.ndarray:
        return np.abs(self.x_TI).max(0)

    @property
    def weight(self) -> torch.Tensor:
        return torch.from_numpy(self.weight_OI)

    def moments(self, dtype: torch.dtype = torch.float64) -> Moments:
        hessian, mean, largest = (
            torch.from_numpy(a).to(dtype) for a in (self.hessian_II, self.mean_abs_I, self.max_abs_I)
        )
        return Moments(hessian, mean, largest, len(self.x_TI))


def problem(kind: str, seed: int, *, inputs: int = 48, outputs: int = 6) -> Problem:
    """One of KINDS. A convolution's row is laid out (kh, kw, Cin), so 3 x 3 taps of 16 channels make 144 columns."""
    rng = np.random.default_rng([KINDS.index(kind), seed])
    tokens = 3 * inputs
    if kind == "convolution":
        inputs, tokens = 144, 200
    if kind == "rank deficient":
        tokens = inputs // 3
    x = rng.standard_normal((tokens, inputs))
    if kind in ("correlated", "dead columns", "rank deficient", "one row"):
        mixing = rng.standard_normal((inputs, inputs)) / np.sqrt(inputs)
        x = x @ (mixing + 0.5 * np.eye(inputs)) + 0.5 * rng.standard_normal((tokens, 1))
    if kind == "dead columns":
        x[:, [0, inputs // 2, inputs - 1]] = 0
    if kind == "outlier channel":
        x[:, 7] *= 60
    if kind == "convolution":
        image = np.pad(rng.standard_normal((200 // 25 * 25, 5, 5, 16))[:8], ((0, 0), (1, 1), (1, 1), (0, 0)))
        x = np.stack([image[:, i : i + 3, j : j + 3].reshape(8, -1) for i in range(5) for j in range(5)], 1)
        x = x.reshape(-1, inputs)
    w = rng.standard_normal((1 if kind == "one row" else outputs, inputs)) * rng.uniform(0.2, 2, (1, inputs))
    return Problem(w.astype(np.float32), x)


def plugin(name: str):
    return registry.find("netweight.compress", name)


def solve(method: str, p: Problem, format_name: str, *, dtype: torch.dtype = torch.float64, **settings):
    """The plug-in's QTensor for a problem."""
    found = plugin(method)
    stats = p.moments(dtype) if found.STATS == "moments" else None
    return found.solve(p.weight, stats, formats.get(format_name), found.Settings(**settings)).qtensor


def decided(losses_KOG: np.ndarray, margin: float = 1e-6) -> np.ndarray:
    """Where the best loss beats all others by more than what the order of a float32 sum can change (relative).

    Equal candidates (two ratios that give the same codes) are no contest: the first of them wins either way, so only
    differences that are small but not zero leave a group undecided.
    """
    best = losses_KOG.min(axis=0)
    close = losses_KOG - best <= margin * (losses_KOG.max(axis=0) + 1e-30)
    return (close & (losses_KOG != best)).sum(axis=0) == 0

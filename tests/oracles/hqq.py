"""Oracle of HQQ (half-quadratic quantization, Badri and Shaji 2023): one group at a time, in float64.

The error W - W_r is split off by a shrinkage that models it as sparse (an l_p norm, p < 1); the zero point is then
the mean that makes the rest vanish. The scale stays as fitted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from oracles import number_formats as nf

P, BETA, KAPPA, ITERATIONS = 0.7, 10.0, 1.01, 20


@dataclass(frozen=True)
class Solved:
    """Zeros that gave the smallest mean absolute error, and every iteration's error."""

    zero_OG: np.ndarray
    codes_OI: np.ndarray
    values_OI: np.ndarray
    errors: tuple[float, ...]  # mean |W - W_r| over the whole matrix, per iteration
    decided: bool  # no change of the error was so small (1e-6 of it) that another order of summation turns it around


def solve(weight_OI: np.ndarray, format_name: str) -> Solved:
    """Alternate shrinkage and zero point until the error no longer falls, at most 20 times; keep the best.

    A zero is rounded to the type it is stored in as soon as it is made, so that the error judged is the stored one's.
    """
    fitted = nf.fit(format_name, weight_OI)
    row = fitted.row
    assert fitted.zero_OI is not None
    w = np.asarray(weight_OI, dtype=np.float32).astype(np.float64)
    s = fitted.scale_OI.astype(np.float64)
    z = fitted.zero_OI.astype(np.float64)
    groups = nf.column_groups(row, w.shape[1])
    beta, errors, decided = BETA, [], True
    best = (np.inf, z)
    for _ in range(ITERATIONS + 1):  # the starting point and 20 updates are judged
        q = _code(w, s, z, row)
        rest = w - (q - z) * s
        errors.append(float(np.abs(rest).mean()))
        fall = best[0] - errors[-1]
        moved = not np.array_equal(z, best[1])  # a zero may move without changing the error: as many up as down
        decided &= not (moved and abs(fall) <= 1e-6 * errors[-1])
        if fall <= 0:
            break
        best = (errors[-1], z)
        target = q - _divide(w - shrink(rest, beta), s)
        z = np.concatenate([_mean_over(target[:, g]) for g in groups], axis=1)
        z = np.where(s > 0, stored(z, row), fitted.zero_OI)
        beta *= KAPPA
    z = best[1]
    q = _code(w, s, z, row)
    at = [g.start for g in groups]
    return Solved(z[:, at], q.astype(np.uint8), (q - z) * s, tuple(errors), decided)


def shrink(x: np.ndarray, beta: float) -> np.ndarray:
    """sign(x) * max(|x| - |x|^(p-1) / beta, 0), the approximate proximal operator of |x|^p."""
    size = np.abs(x)
    with np.errstate(divide="ignore"):
        return np.sign(x) * np.maximum(size - size ** (P - 1) / beta, 0)


def stored(z: np.ndarray, row: nf.Row) -> np.ndarray:
    """A zero as the format stores it: fp16, or rounded and clipped to a code."""
    return z.astype(np.float16).astype(np.float64) if row.float_zero else np.clip(np.rint(z), 0, 2**row.bits - 1)


def _code(w: np.ndarray, s: np.ndarray, z: np.ndarray, row: nf.Row) -> np.ndarray:
    u = _divide(w, s)
    return np.clip(np.rint(u + z) if row.float_zero else np.rint(u) + z, 0, 2**row.bits - 1)


def _divide(a: np.ndarray, s: np.ndarray) -> np.ndarray:
    return np.divide(a, s, out=np.zeros_like(a), where=s > 0)


def _mean_over(part: np.ndarray) -> np.ndarray:
    return np.repeat(part.mean(axis=1, keepdims=True), part.shape[1], axis=1)

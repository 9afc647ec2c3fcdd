"""Oracle of GPTQ (arXiv 2210.17323, section 3): the optimal-brain update with the explicit inverse, in float64.

A fast implementation factors the inverse Hessian once and works in blocks. Here the Hessian of the columns that are
still free is inverted anew before every column, as the derivation (its equation 2) says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from oracles import number_formats as nf

NEAR_TIE = 1e-6  # unit: one scale. Closer than this, the order of summation in float64 may decide the code


@dataclass(frozen=True)
class Solved:
    """Codes of every entry, in stored column order, and how firmly each was decided."""

    codes_OI: np.ndarray
    values_OI: np.ndarray
    tie_distance_OI: np.ndarray  # unit: one scale
    order_I: np.ndarray  # columns in the order they were rounded

    def comparable(self) -> np.ndarray:
        """(O, I) bool: entries reached before their row first came near a tie.

        Behind a tie both choices are right, and every later column of that row depends on the one taken.
        """
        firm = self.tie_distance_OI[:, self.order_I] >= NEAR_TIE
        mask = np.zeros(firm.shape, dtype=bool)
        mask[:, self.order_I] = np.logical_and.accumulate(firm, axis=1)
        return mask


def solve(
    weight_OI: np.ndarray,
    hessian_II: np.ndarray,
    format_name: str,
    *,
    damping: float = 0.01,
    order: Literal["natural", "hessian"] = "hessian",
    groups: Literal["static", "dynamic"] = "static",
    ratio_OG: np.ndarray | float = 1.0,
) -> Solved:
    """Round column after column; what a column loses, the free ones make up for.

    Args:
      weight_OI: the weight; read as float32, worked on in float64.
      hessian_II: (2 / n) * sum of x x^T, possibly singular, with zero rows where an input was never seen.
      damping: fraction of the mean diagonal added to the diagonal.
      order: columns as stored, or by descending Hessian diagonal (stable).
      groups: scales from the original weight, or from the changed weight when a group is entered (natural order only).
      ratio_OG: by how much static ranges are shrunk beforehand.
    """
    original = np.asarray(weight_OI, dtype=np.float32)
    w = original.astype(np.float64)
    h = damped(hessian_II, damping)
    count = w.shape[1]
    diagonal = _revived(hessian_II).diagonal()
    sequence = np.arange(count) if order == "natural" else np.argsort(-diagonal, kind="stable")
    fitted = nf.fit(format_name, original, ratio_OG)
    starts = {g.start: g for g in nf.column_groups(nf.parse(format_name), count)}
    codes = np.zeros(w.shape, dtype=np.uint8)
    values = np.zeros(w.shape)
    distance = np.full(w.shape, np.inf)
    for step, j in enumerate(sequence):
        free = sequence[step:]
        inverse = np.linalg.inv(h[np.ix_(free, free)])  # row and column 0 belong to j
        if groups == "dynamic" and j in starts:
            columns = starts[j]
            fitted = nf.fit(format_name, w)  # spread over all columns; only this group's are read before the next fit
            distance[:, j] = nf.fit_tie_distance(format_name, w[:, columns])[:, 0]
        column = fitted.column(j)
        code = nf.codes(column, w[:, j : j + 1])
        distance[:, j] = np.minimum(distance[:, j], nf.tie_distance(column, w[:, j : j + 1])[:, 0])
        codes[:, j], values[:, j] = code[:, 0], nf.values(column, code)[:, 0]
        error = (w[:, j] - values[:, j]) / inverse[0, 0]
        w[:, free] -= np.outer(error, inverse[0])
    return Solved(codes, values, distance, sequence)


def damped(hessian_II: np.ndarray, damping: float) -> np.ndarray:
    """The Hessian with unseen inputs revived, plus ``damping`` times its mean diagonal on the diagonal."""
    h = _revived(hessian_II)
    return h + damping * h.diagonal().mean() * np.eye(len(h))


def _revived(hessian_II: np.ndarray) -> np.ndarray:
    h = np.array(hessian_II, dtype=np.float64)
    dead = h.diagonal() == 0
    h[dead, dead] = 1
    return h


def loss(weight_OI: np.ndarray, values_OI: np.ndarray, hessian_II: np.ndarray) -> float:
    """tr(D H D^T): proportional to the squared output error on the calibration inputs."""
    d = np.asarray(values_OI, dtype=np.float64) - np.asarray(weight_OI, dtype=np.float64)
    return float(np.einsum("oi,ij,oj->", d, np.asarray(hessian_II, dtype=np.float64), d))

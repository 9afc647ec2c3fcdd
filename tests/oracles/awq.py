"""Oracle of AWQ (arXiv 2306.00978, section 3.2): try every exponent, then every clip ratio, and keep the first best.

Float64 apart from the rounding itself, which is the format's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from oracles import number_formats as nf

EXPONENTS = tuple(k / 20 for k in range(20))
RATIOS = tuple(1 - k / 20 for k in range(10))


def scale(mean_abs_I: np.ndarray, exponent: float) -> np.ndarray:
    """mean|x| to the power of ``exponent``, at least 1e-4, centred so that max * min = 1."""
    s = np.maximum(np.asarray(mean_abs_I, dtype=np.float64) ** exponent, 1e-4)
    return s / np.sqrt(s.max() * s.min())


def losses(
    weights: Sequence[np.ndarray], hessian_II: np.ndarray, mean_abs_I: np.ndarray, format_name: str
) -> np.ndarray:
    """(20,): for every exponent the summed output error of the layers that read the same input."""
    h = np.asarray(hessian_II, dtype=np.float64)
    found = []
    for exponent in EXPONENTS:
        s = scale(mean_abs_I, exponent)
        total = 0.0
        for w in weights:
            d = nf.quantized(format_name, np.asarray(w, dtype=np.float64) * s) / s - np.asarray(w, dtype=np.float64)
            total += sum(float(row @ h @ row) for row in d)
        found.append(total)
    return np.array(found)


def clip_losses(weight_OI: np.ndarray, hessian_II: np.ndarray, format_name: str) -> np.ndarray:
    """(10, O, G): for every ratio each group's own output error, all other groups left exact."""
    h = np.asarray(hessian_II, dtype=np.float64)
    w = np.asarray(weight_OI, dtype=np.float64)
    groups = nf.column_groups(nf.parse(format_name), w.shape[1])
    out = np.zeros((len(RATIOS), w.shape[0], len(groups)))
    for k, ratio in enumerate(RATIOS):
        d = nf.quantized(format_name, w, ratio) - w
        for g, columns in enumerate(groups):
            block = h[columns, columns]
            out[k, :, g] = [row @ block @ row for row in d[:, columns]]
    return out

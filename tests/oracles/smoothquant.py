"""Oracle of SmoothQuant (arXiv 2211.10438, equation 4), one channel at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def scale(weights: Sequence[np.ndarray], max_abs_I: np.ndarray, alpha: float = 0.5) -> np.ndarray:
    """s_j = max|x_j|^alpha / max|w_j|^(1 - alpha), each maximum at least 1e-5; w_j over every layer that reads x."""
    out = []
    for j, x in enumerate(np.asarray(max_abs_I, dtype=np.float64)):
        w = max(float(np.abs(np.asarray(weight, dtype=np.float64)[:, j]).max()) for weight in weights)
        out.append(max(float(x), 1e-5) ** alpha / max(w, 1e-5) ** (1 - alpha))
    return np.array(out)

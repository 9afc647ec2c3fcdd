"""Oracle of clipping by squared weight error: every ratio is tried for every group, the first best is kept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from oracles import number_formats as nf


def losses(weight_OI: np.ndarray, ratios: Sequence[float], format_name: str) -> np.ndarray:
    """(ratios, O, G): squared error of each group at each ratio; G = O = 1 for a format with one scale per tensor."""
    w = np.asarray(weight_OI, dtype=np.float64)
    row = nf.parse(format_name)
    out = []
    for ratio in ratios:
        square = (nf.quantized(format_name, w, ratio) - w) ** 2
        if row.group == -1:
            out.append(square.sum(keepdims=True))
        else:
            out.append(np.stack([square[:, g].sum(axis=1) for g in nf.column_groups(row, w.shape[1])], axis=1))
    return np.stack(out)

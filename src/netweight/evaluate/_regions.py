"""Connected components of masks, slice by slice: lesions, and what a subject takes for one.

Pixels that touch at a side or a corner are one component (8-neighbourhood); a lesion seen in five slices is five components.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

_WITHIN_A_SLICE = np.zeros((3, 3, 3), dtype=bool)
_WITHIN_A_SLICE[1] = True


def components(mask_SHW: np.ndarray) -> tuple[np.ndarray, int]:
    """(S, H, W) labels, 0 outside and 1..C in the components, and C."""
    labels_SHW, count = ndimage.label(mask_SHW, _WITHIN_A_SLICE)  # pyright: ignore[reportGeneralTypeIssues]
    return labels_SHW, int(count)


def sizes(labels: np.ndarray, count: int) -> np.ndarray:
    """(C,) pixels of each component, from labels of any shape."""
    return np.bincount(labels.ravel(), minlength=count + 1)[1:]


def touched(labels_SHW: np.ndarray, count: int, mask_SHW: np.ndarray) -> np.ndarray:
    """(C,) pixels of each component that lie in the mask."""
    return sizes(labels_SHW[mask_SHW], count)

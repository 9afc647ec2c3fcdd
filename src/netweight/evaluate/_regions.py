"""Connected components of masks, slice by slice: lesions, and what a subject takes for one.

Pixels that touch at a side or a corner are one component (8-neighbourhood); a lesion seen in five slices is five components.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

_WITHIN_A_SLICE = np.zeros((3, 3, 3), dtype=bool)
_WITHIN_A_SLICE[1] = True


def components(mask_SHW: np.ndarray) -> tuple[np.ndarray, int]:
    """(S, H, W) labels, 0 outside and 1..C in the components, and C."""
    labels_SHW, count = ndimage.label(mask_SHW, _WITHIN_A_SLICE)  # pyright: ignore[reportGeneralTypeIssues]
    return labels_SHW, int(count)


@dataclass(frozen=True, eq=False)
class Lesions:
    """The components of one patient's true masks.

    Attributes:
      labels_N: 0..C-1, the component of each of the N positive pixels, in the order of ``values[mask]``.
      sizes_C: pixels of each.
    """

    labels_N: np.ndarray
    sizes_C: np.ndarray

    @staticmethod
    def of(mask_SHW: np.ndarray) -> Lesions:
        labels_SHW, count = components(mask_SHW)
        labels_N = labels_SHW[mask_SHW] - 1
        return Lesions(labels_N, np.bincount(labels_N, minlength=count))

    def hits(self, chosen_N: np.ndarray) -> np.ndarray:
        """(C,) how many pixels of each are among the chosen ones (bool)."""
        return np.bincount(self.labels_N[chosen_N], minlength=len(self.sizes_C))


def apart(predicted_SHW: np.ndarray, mask_SHW: np.ndarray) -> int:
    """How many components of the first touch no pixel of the second."""
    labels_SHW, count = components(predicted_SHW)
    touching = np.unique(labels_SHW[mask_SHW])
    return count - int((touching > 0).sum())

"""Slices to one square size, in whole numbers: the same bytes on every machine.

A picture that is not square is first put in the middle of a black square (its mask: no lesion there), so that nothing is cut off
and nothing is stretched. Then each axis is shrunk by area, or enlarged linearly between the centres of pixels. All weights
are fractions with one denominator, so sums are exact and halves are rounded up; a mask's pixel counts where its share is at least
one half.
"""

from __future__ import annotations

from functools import lru_cache
from math import gcd

import numpy as np
from scipy.sparse import csr_array

WHITE = 255


def fit(image: np.ndarray, mask: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """An image (H, W, 3) uint8 and its mask (H, W) bool as (size, size, 3) uint8 and (size, size) bool."""
    image, mask = squared(image), squared(mask)
    side = image.shape[0]
    if side == size:
        return image, mask
    unit = _denominator(side, size) ** 2
    both = np.empty((*mask.shape, 4), np.int32 if 2 * (WHITE + 1) * unit < 2**31 else np.int64)
    both[..., :3], both[..., 3] = image, mask
    sums = _along_columns(_along_rows(both, size), size)
    pixels = (2 * sums[..., :3] + unit) // (2 * unit)
    return pixels.astype(np.uint8), 2 * sums[..., 3] >= unit


def squared(picture: np.ndarray) -> np.ndarray:
    """(H, W, ...) in the middle of zeros (S, S, ...), S the longer side; an odd pixel goes below or to the right."""
    height, width = picture.shape[:2]
    side = max(height, width)
    if height == width:
        return picture
    found = np.zeros((side, side, *picture.shape[2:]), picture.dtype)
    top, left = (side - height) // 2, (side - width) // 2
    found[top : top + height, left : left + width] = picture
    return found


def _along_rows(values: np.ndarray, size: int) -> np.ndarray:
    """(S, W, C) to (size, W, C), times the denominator."""
    side, width, channels = values.shape
    weights = _weights(side, size, values.dtype.char)
    return (weights @ values.reshape(side, -1)).reshape(size, width, channels)


def _along_columns(values: np.ndarray, size: int) -> np.ndarray:
    return _along_rows(values.transpose(1, 0, 2), size).transpose(1, 0, 2)


def _denominator(side: int, size: int) -> int:
    """What a row of the weights sums to."""
    return side // gcd(side, size) if side > size else 2 * size


@lru_cache(maxsize=64)
def _weights(side: int, size: int, dtype: str) -> csr_array:
    """(size, side) whole numbers."""
    dense = _area(side, size) if side > size else _linear(side, size)
    return csr_array(dense.astype(dtype))


def _area(side: int, size: int) -> np.ndarray:
    """How much of each old pixel lies in each new one; an old pixel is ``size / gcd`` units long, a new one ``side / gcd``."""
    old, new = size // gcd(side, size), side // gcd(side, size)
    end = np.minimum((np.arange(size)[:, None] + 1) * new, (np.arange(side) + 1) * old)
    start = np.maximum(np.arange(size)[:, None] * new, np.arange(side) * old)
    return np.maximum(end - start, 0).astype(np.int64)


def _linear(side: int, size: int) -> np.ndarray:
    """The two nearest old centres, in units of 1 / (2 size); beyond the outermost centres its value holds."""
    place = np.clip((2 * np.arange(size) + 1) * side - size, 0, 2 * size * (side - 1))
    left, part = np.divmod(place, 2 * size)
    dense = np.zeros((size, side), np.int64)
    rows = np.arange(size)
    dense[rows, left] += 2 * size - part
    dense[rows, np.minimum(left + 1, side - 1)] += part
    return dense

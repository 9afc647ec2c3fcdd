"""Oracle of packing: each row is one big number, code k shifted left by k * bits, cut into 32-bit words."""

from __future__ import annotations

import numpy as np


def words(codes_OI: np.ndarray, bits: int) -> np.ndarray:
    """(O, ceil(I * bits / 32)) uint32: a bitstream per row, least significant bit first, padded to whole words."""
    count = -(-codes_OI.shape[1] * bits // 32)
    return np.array([_row(row, bits, count) for row in codes_OI.tolist()], dtype=np.uint32).reshape(-1, count)


def _row(codes: list[int], bits: int, count: int) -> list[int]:
    stream = sum(code << (k * bits) for k, code in enumerate(codes))
    return [(stream >> (32 * w)) & 0xFFFFFFFF for w in range(count)]

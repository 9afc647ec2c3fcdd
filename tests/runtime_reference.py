"""What the kernels must compute, said another way: codes and scales from ``formats``, exact sums in float64."""

from __future__ import annotations

import ctypes

import numpy as np
import torch

from netweight import formats
from netweight.formats import Format, QTensor
from netweight.runtime.kernels import _library

BLOCK, SEGMENT, UNIT_ROUNDOFF, TINY = 64, 16, 2.0**-24, 1e-37


def quantized_input(x_MI: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """(M, I padded) int8 and (M, blocks) float32 as the library quantizes them; ``test_quantize`` checks those apart."""
    x_MI = x_MI.float().contiguous()
    rows, columns = x_MI.shape
    padded = -(-columns // BLOCK) * BLOCK
    q, scale = np.empty((rows, padded), np.int8), np.empty((rows, padded // BLOCK), np.float32)
    status = _library.library().nw_quantize(
        x_MI.data_ptr(),
        rows,
        columns,
        columns,
        q.ctypes.data_as(ctypes.c_void_p),
        scale.ctypes.data_as(ctypes.c_void_p),
    )
    assert status == 0
    return q, scale


def decoded_input(x_MI: torch.Tensor) -> np.ndarray:
    """(M, I) float64: the values the 8-bit activations stand for."""
    q, scale = quantized_input(x_MI)
    return (q.astype(np.float64) * np.repeat(scale.astype(np.float64), BLOCK, axis=1))[:, : x_MI.shape[1]]


def product(q: QTensor, x_MI: np.ndarray, *, floats: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """(M, O) exact product of the decoded matrix with x, and a bound on what a kernel's float32 sums may differ from it.

    Whole-number sums over a segment of a row are exact. Each is then converted, perhaps lessened by zero * sum(x), scaled and
    added: four roundings, of relative size u = 2^-24, of numbers no larger than the sum of the segments' magnitudes so far. For n
    segments |error| <= (n + 8) u * sum over segments of s (|sum of (c - z) x| + |z sum of x|); segments of 16 columns, the
    shortest there are, bound the longer ones. With float activations (``floats``) every column is a segment of its own.
    """
    weight = q.decode(torch.float32).double().numpy()
    decode = 4 * UNIT_ROUNDOFF * (np.abs(x_MI) @ np.abs(weight).T)  # the decoded matrix is itself rounded to float32
    if floats:
        moved = np.zeros_like(weight)
        if q.zero is not None:  # a zero is taken from the code in float32
            scale, zero = formats.expand(q.params, q.format, q.shape)
            moved = (scale.double().abs() * zero.double().abs()).expand(q.shape).numpy()
        size = np.abs(x_MI) @ (np.abs(weight) + moved).T
        return x_MI @ weight.T, (q.shape[1] + 8) * UNIT_ROUNDOFF * size + decode + TINY
    segments = -(-q.shape[1] // SEGMENT)
    sums = np.abs(np.einsum("osk,msk->mos", _in_segments(weight), _in_segments(x_MI), optimize=True))
    if q.zero is not None:
        scale, zero = formats.expand(q.params, q.format, q.shape)
        moved = (scale.double() * zero.double()).expand(q.shape).numpy()
        sums = sums + np.abs(np.einsum("osk,msk->mos", _in_segments(moved), _in_segments(x_MI), optimize=True))
    return x_MI @ weight.T, (segments + 8) * UNIT_ROUNDOFF * sums.sum(-1) + decode + TINY


def _in_segments(matrix: np.ndarray) -> np.ndarray:
    short = -matrix.shape[1] % SEGMENT
    return np.pad(matrix, ((0, 0), (0, short))).reshape(len(matrix), -1, SEGMENT)


def random_matrix(format: Format, outputs: int, inputs: int, seed: int = 0) -> QTensor:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(outputs, inputs, generator=generator) * 0.05
    weight *= torch.exp(torch.randn(outputs, 1, generator=generator))  # rows of different size
    return formats.quantize(weight, format)

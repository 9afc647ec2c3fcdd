"""What the kernels must compute, said another way: codes and scales from ``formats``, exact sums in float64."""

from __future__ import annotations

import ctypes

import numpy as np
import torch

from netweight import formats
from netweight.formats import Format, QTensor
from netweight.runtime.kernels import _library

BLOCK, UNIT_ROUNDOFF = 64, 2.0**-24


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


def product(q: QTensor, x_MI: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(M, O) exact product of the decoded matrix with x, and a bound on what float32 sums may differ from it.

    A kernel rounds once for each conversion, scaling and addition of a segment's sum. With unsigned codes c and zero z, the
    sums are of c * x and of z * x, so the bound holds their magnitudes: for n segments of a row and four roundings in each,
    |error| <= (n + 8) u * sum over columns of s (|c| + |z|) |x|, u = 2^-24; taken as 2 (n + 8) for the second-order terms.
    """
    weight = q.decode(torch.float32).double().numpy()
    scale, zero = formats.expand(q.params, q.format, q.shape)
    step = scale.double().expand(q.shape).abs().numpy()
    if q.format.tensor_scale:
        step = step / float(q.tensor_scale)
    largest_code = {"int": 2**q.format.bits - 1, "ternary": 2, "e2m1": 12, "e4m3": 448}[q.format.element]
    offset = 2 ** (q.format.bits - 1) if q.format.element == "int" else 12
    magnitude = largest_code + (offset if zero is None else zero.double().expand(q.shape).abs().numpy())
    segments = -(-q.shape[1] // 16)
    bound = 2 * (segments + 8) * UNIT_ROUNDOFF * (np.abs(x_MI) @ (step * magnitude).T)
    decode = 4 * UNIT_ROUNDOFF * (np.abs(x_MI) @ np.abs(weight).T)  # the decoded matrix is itself rounded to float32
    return x_MI @ weight.T, bound + decode + 1e-37


def random_matrix(format: Format, outputs: int, inputs: int, seed: int = 0) -> QTensor:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(outputs, inputs, generator=generator) * 0.05
    weight *= torch.exp(torch.randn(outputs, 1, generator=generator))  # rows of different size
    return formats.quantize(weight, format)

"""The three products of linear layers and convolutions by explicit loops, with operands rounded line by line in NumPy.

Written apart from the package: windows are gathered tap by tap, blocks are rounded by the NumPy codec of ``number_formats``.
"""

from __future__ import annotations

import itertools

import numpy as np

from oracles import number_formats


def along(x: np.ndarray, axis: int, name: str | None) -> np.ndarray:
    """x rounded in blocks along an axis."""
    if name is None:
        return x
    lines = np.moveaxis(x, axis, -1)
    flat = np.ascontiguousarray(lines).reshape(-1, lines.shape[-1])
    return np.moveaxis(number_formats.quantized(f"{name}-ragged", flat).reshape(lines.shape), -1, axis)


def conv(x: np.ndarray, w: np.ndarray, stride: int, padding: int, dilation: int, groups: int) -> np.ndarray:
    """(N, C, H, W), (O, C / groups, K, L) to (N, O, …), float64."""
    return _walk(x, w, stride, padding, dilation, groups)[0]


def conv_gradients(x, w, g, stride: int, padding: int, dilation: int, groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Of x and of w."""
    return _walk(x, w, stride, padding, dilation, groups, g)[1:]


def _walk(x, w, stride, padding, dilation, groups, g=None):
    x, w = x.astype(np.float64), w.astype(np.float64)
    n, _, height, width = x.shape
    o, per_group, kh, kw = w.shape
    framed = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    out_h = (height + 2 * padding - dilation * (kh - 1) - 1) // stride + 1
    out_w = (width + 2 * padding - dilation * (kw - 1) - 1) // stride + 1
    y = np.zeros((n, o, out_h, out_w))
    to_x, to_w = np.zeros_like(framed), np.zeros_like(w)
    outputs = o // groups
    for group, i, j in itertools.product(range(groups), range(out_h), range(out_w)):
        rows = slice(i * stride, i * stride + dilation * (kh - 1) + 1, dilation)
        columns = slice(j * stride, j * stride + dilation * (kw - 1) + 1, dilation)
        ins, outs = slice(group * per_group, (group + 1) * per_group), slice(group * outputs, (group + 1) * outputs)
        window = framed[:, ins, rows, columns]
        y[:, outs, i, j] = np.einsum("nckl,ockl->no", window, w[outs])
        if g is not None:
            here = g[:, outs, i, j].astype(np.float64)
            to_x[:, ins, rows, columns] += np.einsum("no,ockl->nckl", here, w[outs])
            to_w[outs] += np.einsum("no,nckl->ockl", here, window)
    inside = (slice(None), slice(None), slice(padding, padding + height), slice(padding, padding + width))
    return y, to_x[inside], to_w


def conv_transpose(x: np.ndarray, w: np.ndarray, stride: int, padding: int, groups: int, extra: int) -> np.ndarray:
    """(N, C, H, W), (C, O / groups, K, L): every input value spreads its weighted taps over the output."""
    n, c, height, width = x.shape
    _, outputs, kh, kw = w.shape
    size = [(s - 1) * stride + k + extra for s, k in ((height, kh), (width, kw))]
    y = np.zeros((n, outputs * groups, *size))
    ins = c // groups
    for group, i, j in itertools.product(range(groups), range(height), range(width)):
        of = slice(group * ins, (group + 1) * ins)
        spread = np.einsum("nc,cokl->nokl", x[:, of, i, j].astype(np.float64), w[of].astype(np.float64))
        y[:, group * outputs : (group + 1) * outputs, i * stride : i * stride + kh, j * stride : j * stride + kw] += (
            spread
        )
    return y[:, :, padding : size[0] - padding, padding : size[1] - padding]


def conv_transpose_gradients(x, w, g, stride: int, padding: int, groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Of x and of w: each value of x gathers the window of g that it had spread into."""
    _, c, height, width = x.shape
    _, outputs, kh, kw = w.shape
    framed = np.pad(g.astype(np.float64), ((0, 0), (0, 0), (padding, padding + kh), (padding, padding + kw)))
    to_x, to_w = np.zeros(x.shape), np.zeros(w.shape)
    ins = c // groups
    for group, i, j in itertools.product(range(groups), range(height), range(width)):
        of, outs = slice(group * ins, (group + 1) * ins), slice(group * outputs, (group + 1) * outputs)
        window = framed[:, outs, i * stride : i * stride + kh, j * stride : j * stride + kw]
        to_x[:, of, i, j] = np.einsum("nokl,cokl->nc", window, w[of].astype(np.float64))
        to_w[of] += np.einsum("nc,nokl->cokl", x[:, of, i, j].astype(np.float64), window)
    return to_x, to_w

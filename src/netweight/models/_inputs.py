"""A layer's input as rows of the reduction its matrix multiplies, so that ``x_TI @ matrix.T`` is the layer's output."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from netweight.errors import ModelError
from netweight.models._layers import CONVS, TRANSPOSED_CONVS, kind_of


def stage_input(module: nn.Module, x: Tensor) -> Tensor:
    """The input of one call as the rows that ``matrix_of(module)`` multiplies.

    Args:
      x: what the module's ``forward`` gets: (..., I) for linear layers, (N, Cin, spatial...) or (Cin, spatial...) for
        convolutions.
    Returns:
      (T, I), one row per token or output position, in the order of the output flattened over (N, spatial...). With
      ``groups`` channel groups (groups, T, I): rows ``g * O / groups`` and on of the matrix read slice g.
    Raises:
      ModelError: the module is an embedding or no layer at all.
    """
    if kind_of(module) in (None, "embedding"):
        raise ModelError(f"a {type(module).__name__} multiplies no input rows; only linear layers and convolutions do")
    if isinstance(module, CONVS):
        return _taps(
            _pad(module, _batched(module, x)), module.kernel_size, module.stride, module.dilation, module.groups
        )
    if isinstance(module, TRANSPOSED_CONVS):
        return _transposed_taps(module, _batched(module, x))
    return x.reshape(-1, x.shape[-1])


def _batched(module: Any, x: Tensor) -> Tensor:
    return x.unsqueeze(0) if x.dim() == len(module.kernel_size) + 1 else x


def _pad(module: Any, x: Tensor) -> Tensor:
    """The padded input. ``"same"`` puts the odd element at the end, as torch does."""
    sides = []
    for i, (size, step) in enumerate(zip(module.kernel_size, module.dilation, strict=True)):
        total = step * (size - 1) if module.padding == "same" else 0
        amount = 0 if isinstance(module.padding, str) else module.padding[i]
        sides.append((total // 2, total - total // 2) if module.padding == "same" else (amount, amount))
    flat = [side for pair in reversed(sides) for side in pair]
    if not any(flat):
        return x
    return F.pad(x, flat) if module.padding_mode == "zeros" else F.pad(x, flat, mode=module.padding_mode)


def _transposed_taps(module: Any, x: Tensor) -> Tensor:
    """A transposed convolution is a plain one, tap order reversed, over its input with zeros between the elements."""
    spatial = len(module.kernel_size)
    spread = x.new_zeros(*x.shape[:2], *((n - 1) * s + 1 for n, s in zip(x.shape[2:], module.stride, strict=True)))
    spread[(..., *(slice(None, None, s) for s in module.stride))] = x
    flat = []
    for i in reversed(range(spatial)):
        reach = module.dilation[i] * (module.kernel_size[i] - 1)
        flat += [reach - int(module.padding[i]), reach - int(module.padding[i]) + module.output_padding[i]]
    padded = F.pad(spread, flat)  # a negative amount crops
    return _taps(padded, module.kernel_size, (1,) * spatial, module.dilation, module.groups, reverse=True)


def _taps(
    x: Tensor,
    size: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    *,
    reverse: bool = False,
) -> Tensor:
    """(T, taps * C) for every window of (N, C, spatial...); (groups, T, taps * C / groups) when grouped."""
    spatial = len(size)
    for i in range(spatial):
        x = x.unfold(2 + i, dilation[i] * (size[i] - 1) + 1, stride[i])
    x = x[(..., *(slice(None, None, step) for step in dilation))]
    if reverse:
        x = x.flip(tuple(range(-spatial, 0)))
    n, channels = x.shape[:2]
    x = x.reshape(n, groups, channels // groups, *x.shape[2:])  # N, groups, C, out..., taps...
    out, taps = tuple(range(3, 3 + spatial)), tuple(range(3 + spatial, 3 + 2 * spatial))
    rows = x.permute(1, 0, *out, *taps, 2)
    rows = rows.reshape(groups, -1, x.shape[2] * math.prod(size))
    return rows[0] if groups == 1 else rows

"""Parameters of a quantized matrix, and the matrix itself. Both immutable."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from netweight.formats._format import Format


@dataclass(frozen=True, eq=False)
class Params:
    """Scales of a matrix, already rounded to the type they are stored in, held as float32.

    ``scale_RG`` one per block; ``zero_RG`` in units of a code, or None; ``tensor_scale`` the second-level scale (NVFP4's
    encoding scale: larger means smaller values), or None. ``row_scale_R1``: in a two-level format the float16 scale that each
    of the row's scales is a multiple of, see ``integer``; ``scale_RG`` is the product.
    """

    scale_RG: Tensor
    zero_RG: Tensor | None = None
    tensor_scale: Tensor | None = None
    row_scale_R1: Tensor | None = None


@dataclass(frozen=True, eq=False)
class QTensor:
    """A quantized (O, I) matrix: unpacked codes and their parameters."""

    codes_OI: Tensor  # uint8
    params: Params
    format: Format

    @property
    def shape(self) -> tuple[int, int]:
        outputs, inputs = self.codes_OI.shape
        return outputs, inputs

    @property
    def codes(self) -> Tensor:
        return self.codes_OI

    @property
    def scale(self) -> Tensor:
        return self.params.scale_RG

    @property
    def zero(self) -> Tensor | None:
        return self.params.zero_RG

    @property
    def tensor_scale(self) -> Tensor | None:
        return self.params.tensor_scale

    @property
    def nbytes(self) -> int:
        """Bytes when packed."""
        return self.format.nbytes(self.shape)

    def decode(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """(O, I) values in the exact arithmetic order of the format, computed in float32, then converted."""
        scale, zero = expand(self.params, self.format, self.shape)
        values = self.format.arithmetic.from_codes(self.codes_OI, scale, zero, self.params.tensor_scale, self.format)
        return values.to(dtype)


def expand(params: Params, format: Format, shape: tuple[int, int]) -> tuple[Tensor, Tensor | None]:
    """Scale and zero of every element, (O, I) each (broadcastable where one serves a whole row or tensor)."""
    scale = _expand(params.scale_RG, format, shape)
    return scale, None if params.zero_RG is None else _expand(params.zero_RG, format, shape)


def _expand(value_RG: Tensor, format: Format, shape: tuple[int, int]) -> Tensor:
    if format.rows > 1:
        value_RG = value_RG.repeat_interleave(format.rows, dim=0)[: shape[0]]
    if format.group > 0:
        value_RG = value_RG.repeat_interleave(format.group, dim=1)[:, : shape[1]]
    return value_RG


def in_units(weight: Tensor, scale: Tensor) -> Tensor:
    """weight / scale; 0 where the scale is 0, which stands for a block of zeros."""
    return torch.where(scale > 0, weight / scale, torch.zeros((), dtype=weight.dtype, device=weight.device))

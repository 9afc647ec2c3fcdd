"""NVFP4: E2M1 elements, an E4M3 scale per 16 (or per 16 x 16), a float32 scale per tensor.

In this order, all in float32, so that results agree to the last bit with the vendor's training library:
S = min(2688 / absmax of the tensor, FLT_MAX), 1 for a zero tensor; scale = E4M3(min(absmax of the block * (S * (1/6)), 448));
multiplier = min(1 / (scale * (1/S)), FLT_MAX); code = E2M1(clip(x * multiplier, ±6)); value = code * scale / S.
A block whose scale underflows to 0 is 0. Source: arXiv 2509.25149, appendix; NVIDIA Transformer Engine's reference quantizer.

Four over six: with 1536 for 2688, a block's scale may also be E4M3(1.5 * the above), so that its maximum becomes 4: what errs less.
Source: arXiv 2512.02010.
"""

from __future__ import annotations

import torch
from torch import Tensor

from netweight.formats import _minifloat
from netweight.formats._format import Format
from netweight.formats._qtensor import Params

NAMES = ("nvfp4", "nvfp4-2d")
GRID_MAX, SCALE_MAX = 6.0, 448.0
SCALE_MAX_OF_SIX = 256.0  # so that 1.5 times it is an E4M3 number too
LARGEST = torch.finfo(torch.float32).max


def parse(name: str) -> Format | None:
    if name not in NAMES:
        return None
    rows = 16 if name == "nvfp4-2d" else 1
    return Format(name, "nvfp4", "e2m1", 4, 16, "e4m3", rows=rows, tensor_scale=True, source="arXiv 2509.25149")


def fit(blocks_RGK: Tensor, format: Format, ratio: Tensor | float) -> Params:
    """Tensor scale from the whole matrix, block scales under it. ``ratio`` moves block scales only."""
    absmax = blocks_RGK.nan_to_num(nan=0.0).abs().amax(-1).float()
    level = encode_scale(absmax.amax(), SCALE_MAX)
    return Params(block_scale(wanted_scale(absmax * ratio, level)), None, level)


def fit_four_over_six(blocks_RGK: Tensor, format: Format) -> Params:
    """As ``fit``; each block's maximum becomes 6, or 4 where the squared error of rounding to nearest is then lower."""
    found = blocks_RGK.nan_to_num(nan=0.0).float()
    absmax = found.abs().amax(-1)
    level = encode_scale(absmax.amax(), SCALE_MAX_OF_SIX)
    wanted = wanted_scale(absmax, level)
    six, four = block_scale(wanted), block_scale(wanted * 1.5)
    errors = [squared_error(_rounded(found, scale.unsqueeze(-1), level, format) - found) for scale in (six, four)]
    return Params(torch.where(errors[1] < errors[0], four, six), None, level)


def encode_scale(whole: Tensor, scale_max: float) -> Tensor:
    """S, of the largest magnitude of a tensor (or of each of several)."""
    top = torch.tensor(scale_max * GRID_MAX, device=whole.device)  # a tensor: number / tensor would round twice
    return torch.where(whole > 0, (top / whole).clamp(max=LARGEST), torch.ones_like(whole))


def wanted_scale(absmax: Tensor, level: Tensor) -> Tensor:
    """The scale before it is rounded, by which the block's maximum is 6."""
    return absmax * sixth_of(level)


def sixth_of(level: Tensor) -> Tensor:
    """A sixth of S, by one product."""
    return level * torch.tensor(1 / GRID_MAX, dtype=torch.float32, device=level.device)


def block_scale(wanted: Tensor) -> Tensor:
    """Rounded to E4M3, in float32."""
    return _minifloat.uncast(_minifloat.cast(wanted.clamp(max=SCALE_MAX), "e4m3"), "e4m3")


def squared_error(change: Tensor) -> Tensor:
    """Over the last axis, summed element by element in order, so that its bits are settled."""
    total = torch.zeros_like(change[..., 0])
    for one in change.unbind(-1):
        total = total + one * one
    return total


def _rounded(x: Tensor, scale: Tensor, level: Tensor, format: Format) -> Tensor:
    return from_codes(to_codes(x, scale, None, level, format), scale, None, level, format)


def to_codes(
    weight: Tensor,
    scale: Tensor,
    zero: Tensor | None,
    tensor_scale: Tensor,
    format: Format,
    rounding: str = "nearest",
    generator: torch.Generator | None = None,
) -> Tensor:
    """uint8 codes, saturating at ±6; where the block scale is 0 the code is 0."""
    step = scale.float() * (1 / tensor_scale.float())
    multiplier = torch.where(scale > 0, (1 / step).clamp(max=LARGEST), torch.zeros_like(step))
    scaled = (weight * multiplier).clamp(-GRID_MAX, GRID_MAX)
    return _minifloat.cast(scaled, "e2m1", rounding=rounding, generator=generator)  # pyright: ignore[reportArgumentType]


def from_codes(codes: Tensor, scale: Tensor, zero: Tensor | None, tensor_scale: Tensor, format: Format) -> Tensor:
    """code * scale / S."""
    return _minifloat.uncast(codes, "e2m1", dtype=scale.dtype) * scale / tensor_scale

"""``round_blocks`` in plain torch operations: what the compiled library must give to the bit, and what runs where it cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import pad

from netweight.formats import _minifloat, nvfp4
from netweight.formats._format import WHOLE_ROW, WHOLE_TENSOR
from netweight.formats._layout import Layout
from netweight.formats._qtensor import in_units

if TYPE_CHECKING:
    from netweight.formats._round import Request

LARGEST = torch.finfo(torch.float32).max
WORD = 0xFFFFFFFF
DRAWN = 22  # bits of a draw
UNBIASED = 17 / 16  # room for a scale that is rounded down: nothing is cut off, so that draws keep the mean


def round_into(
    out: Tensor, x: Tensor, plan: Layout, request: Request, stochastic: bool, seed: int, samples: int
) -> None:
    """Fills ``out``, dense as x is, and possibly x itself."""
    plan = _of_samples(x, plan, request, samples)
    lines = plan.view(x)
    turned, values, _ = _turned_values_ends(lines, plan, request, stochastic, seed, samples)
    values = _turn(values.reshape(turned.shape), plan, request.signs, back=True)
    finite = torch.isfinite(lines.reshape(samples, -1)).all(1)
    values = torch.where(_per_sample(finite, values), values, torch.nan)
    plan.view(out).copy_(_unblocked(values, plan))


def look(
    x: Tensor, plan: Layout, request: Request, stochastic: bool, seed: int, samples: int
) -> tuple[Tensor, Tensor, Tensor]:
    """What the same call of ``round_into`` rounds (after the transform), what that becomes, and the end of its block's range; in one order."""
    plan = _of_samples(x, plan, request, samples)
    turned, values, ends = _turned_values_ends(plan.view(x), plan, request, stochastic, seed, samples)
    of_blocks = ends.expand(values.shape).reshape(turned.shape)
    before, after, end = (_unblocked(part.reshape(turned.shape), plan) for part in (turned, values, of_blocks))
    return before, after, end


def _of_samples(x: Tensor, plan: Layout, request: Request, samples: int) -> Layout:
    whole = request.format.group == WHOLE_TENSOR
    return Layout(plan.order, samples, 1, 1, x.numel() // samples, 1, 1) if whole else plan


def _turned_values_ends(
    lines: Tensor, plan: Layout, request: Request, stochastic: bool, seed: int, samples: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Blocks after the transform, (outer, mid, inner, R, G, row_block, width) with zeros beyond the ends; by sample what they are rounded to, and the
    largest magnitude on its side of 0 that a block can give."""
    width = _width(plan, request)
    turned = _turn(_blocked(lines, plan, width), plan, request.signs, back=False)
    flat = turned.reshape(samples, -1, plan.row_block, width)
    draws = _draws(plan, width, seed, lines.device).reshape(flat.shape) if stochastic else None
    return turned, *_values(flat, request, draws)


def _width(plan: Layout, request: Request) -> int:
    return plan.length if request.format.group in (WHOLE_ROW, WHOLE_TENSOR) else request.format.group


def _per_sample(flags_S: Tensor, values: Tensor) -> Tensor:
    each = flags_S.repeat_interleave(values.shape[0] // flags_S.shape[0])
    return each.reshape(-1, *[1] * (values.dim() - 1))


def _blocked(lines: Tensor, plan: Layout, width: int) -> Tensor:
    rows, columns = -plan.rows % plan.row_block, -plan.length % width
    lines = pad(lines.permute(0, 2, 4, 1, 3), (0, columns, 0, rows))
    shape = (*lines.shape[:3], lines.shape[3] // plan.row_block, plan.row_block, lines.shape[4] // width, width)
    return lines.reshape(shape).transpose(4, 5)


def _unblocked(blocks: Tensor, plan: Layout) -> Tensor:
    lines = blocks.transpose(4, 5).flatten(5, 6).flatten(3, 4)
    return lines[..., : plan.rows, : plan.length].permute(0, 3, 1, 4, 2)


def _turn(blocks: Tensor, plan: Layout, signs: int, *, back: bool) -> Tensor:
    """The random Hadamard transform of every whole group of 16, butterfly by butterfly, so that order and bits are settled."""
    if signs < 0:
        return blocks
    flips = torch.tensor([-1.0 if signs >> i & 1 else 1.0 for i in range(16)], device=blocks.device)
    groups = blocks.reshape(*blocks.shape[:4], blocks.shape[4], -1, 16)  # row_block is 1
    whole = torch.arange(groups.shape[4] * groups.shape[5], device=blocks.device) < plan.length // 16
    v = groups if back else groups * flips
    for h in (1, 2, 4, 8):
        pairs = v.reshape(*v.shape[:-1], 8 // h, 2, h)
        a, b = pairs[..., 0, :], pairs[..., 1, :]
        v = torch.stack([a + b, a - b], -2).reshape(groups.shape)
    v = v * 0.25
    v = v * flips if back else v
    keep = whole.reshape(groups.shape[4], groups.shape[5], 1)
    return torch.where(keep, v, groups).reshape(blocks.shape)


def _draws(plan: Layout, width: int, seed: int, device: torch.device) -> Tensor:
    """22 bits for each element: the lower or the upper end of a word that two elements of a block, half a block apart, share."""
    outer, rows, mid, length, inner = plan.sizes
    padded, groups = -(-rows // plan.row_block) * plan.row_block, -(-length // width)

    def along(count: int, dim: int) -> Tensor:
        return torch.arange(count, device=device).reshape([-1 if d == dim else 1 for d in range(7)])

    row = torch.arange(padded, device=device).reshape(1, 1, 1, -1, 1, plan.row_block, 1)
    line = (along(outer, 0) * rows + row) * mid + along(mid, 1)
    number = (line * groups + along(groups, 4)) * inner + along(inner, 2)
    half = (width + 1) // 2
    place = along(width, 6)
    word = _hashed(number * half + place % half, seed)
    return torch.where(place < half, word & (2**DRAWN - 1), word >> (32 - DRAWN))


def _hashed(counter: Tensor, seed: int) -> Tensor:
    """32 bits of each counter under a 64-bit seed. Multipliers and shifts: C. Wellons, hash-prospector (lowbias32)."""
    key = mixed(seed)
    x = (counter & WORD) ^ (key & WORD)
    x = ((x ^ (x >> 16)) * 0x21F0AAAD + (key >> 32)) & WORD
    x = ((x ^ (x >> 15)) * 0xD35A2D97) & WORD
    return x ^ (x >> 15)


def mixed(seed: int) -> int:
    """splitmix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014."""
    everything = (1 << 64) - 1
    x = (seed + 0x9E3779B97F4A7C15) & everything
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & everything
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & everything
    return x ^ (x >> 31)


def _values(blocks: Tensor, request: Request, draws: Tensor | None) -> tuple[Tensor, Tensor]:
    """(S samples, blocks, rows, width) rounded and back, and the ends of their ranges, by block or by element."""
    if request.format.family == "nvfp4":
        return _nvfp4(blocks, request, draws)
    single = blocks.reshape(-1, 1, blocks.shape[2] * blocks.shape[3])
    scale = request.format.arithmetic.fit(single, request.format, request.ratio).scale_RG
    scale = scale.reshape(*blocks.shape[:2], 1, 1)
    if request.format.family == "integer":
        lowest = 2 ** (request.format.bits - 1)
        return _integers(blocks, scale, request.format.bits, draws), scale * torch.where(blocks < 0, lowest, lowest - 1)
    element = request.format.element
    return _rounded(in_units(blocks, scale), element, draws) * scale, scale * _minifloat.ROWS[element].max


def _integers(blocks: Tensor, scale: Tensor, bits: int, draws: Tensor | None) -> Tensor:
    units = in_units(blocks, scale)
    whole = torch.round(units) if draws is None else torch.floor(units + draws.float() / 2**DRAWN)
    return (whole.clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) + 0.0) * scale  # + 0.0: integers have one zero


def _rounded(units: Tensor, element: str, draws: Tensor | None) -> Tensor:
    """The grid value of each element, the sign of zero kept; beyond the range the end of it."""
    row = _minifloat.ROWS[element]
    magnitude = units.abs().clamp(max=row.max)
    if draws is None:
        return torch.copysign(_minifloat.round_magnitude(magnitude, row).clamp(max=row.max), units)
    low = 2.0**row.min_exponent  # below it the step is that of the binade above: shifted there, one rule serves all
    shift = torch.where(magnitude < low, low, 0.0)
    shifted = magnitude + shift
    step = _minifloat.spacing(shifted, row)
    bits = 23 - row.mantissa_bits  # of a float32 below the format's mantissa: more would be rounded by the sum
    chosen = torch.floor(shifted / step + (draws >> (DRAWN - bits)).float() / 2**bits) * step - shift
    return torch.copysign(chosen.clamp(max=row.max), units)


def _nvfp4(blocks: Tensor, request: Request, draws: Tensor | None) -> tuple[Tensor, Tensor]:
    """In the order of ``nvfp4``, with a second-level scale for each sample."""
    absmax = blocks.abs().amax((2, 3), keepdim=True)
    level = nvfp4.encode_scale(
        absmax.amax(1, keepdim=True), nvfp4.SCALE_MAX_OF_SIX if request.four_over_six else nvfp4.SCALE_MAX
    )
    wanted = nvfp4.wanted_scale(absmax * request.ratio, level)
    if not request.four_over_six:
        return _under(blocks, wanted, level, draws)
    widen = 1.0 if draws is None else UNBIASED
    to_six, to_four = wanted * widen, wanted * (widen * 1.5)
    (six, end_six), (four, end_four) = (_under(blocks, to, level, None) for to in (to_six, to_four))
    # judged by what is nearest, so that a draw does not choose its own grid
    errors = [nvfp4.squared_error((found - blocks).flatten(2)) for found in (six, four)]
    lower = (errors[1] < errors[0]).unsqueeze(-1).unsqueeze(-1)
    if draws is not None:
        six, four = (_under(blocks, to, level, draws)[0] for to in (to_six, to_four))
    return torch.where(lower, four, six), torch.where(lower, end_four, end_six)


def _under(blocks: Tensor, wanted: Tensor, level: Tensor, draws: Tensor | None) -> tuple[Tensor, Tensor]:
    scale = nvfp4.block_scale(wanted)
    step = scale * (1 / level)
    multiplier = torch.where(scale > 0, (1 / step).clamp(max=LARGEST), torch.zeros_like(step))
    return _rounded(blocks * multiplier, "e2m1", draws) * scale / level, _minifloat.ROWS["e2m1"].max * scale / level

"""Tensors, layouts and settings on which every form of ``round_blocks`` must give the bits of the plain one."""

from __future__ import annotations

import itertools

import torch

from netweight import formats
from netweight.formats import _round, _round_reference
from netweight.formats._layout import dense, layout

SIGNS = formats.TRANSFORMER_ENGINE_SIGNS


def random(*shape: int, seed: int = 0, spread: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator) * torch.exp(torch.randn(shape, generator=generator) * spread)


def reference(x, name, *, axis, rounding="nearest", seed=0, signs=None, rule="amax", scales="stored", samples=1):
    request, x = _round.requested(name, rule, signs, scales), dense(x, samples)
    out = torch.empty_like(x)
    plan = layout(tuple(x.shape), x.stride(), axis, request.format.rows, samples)
    _round_reference.round_into(out, x, plan, request, rounding == "stochastic", seed, samples)
    return out


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.equal(a.contiguous().view(torch.int32), b.contiguous().view(torch.int32))


LAYOUTS = [
    ((40, 64), 1),
    ((40, 64), 0),
    ((3, 37, 5, 7), 1),
    ((4, 32, 8, 8), 1),
    ((4, 32, 8, 8), 3),
    ((2, 16, 9, 17), 2),
]
LAYOUTS += [((5, 27), 1), ((7, 130), 1), ((2, 3, 400), 2)]


SCALED = (
    "int8-sym-tensor",
    "int4-sym-g32",
    "int3-sym-channel",
    "e4m3-tensor",
    "e5m2-g64",
    "e4m3-channel",
    "mxfp6-e2m3",
    "mxfp8-e5m2",
    "e2m1-g32",
)


def options_of(name, shape, axis):
    signs = (None, SIGNS) if name in ("nvfp4", "mxfp4") else (None,)
    rules = ("amax", "four-over-six", 0.8) if name.startswith("nvfp4") else ("amax", 0.8)
    samples = (1, shape[0]) if axis > 0 and (name != "nvfp4-2d" or axis > 1) else (1,)
    place = axis if name != "nvfp4-2d" else (axis - 1, axis) if axis else (0, 1)
    for rounding, s, rule, n in itertools.product(("nearest", "stochastic"), signs, rules, samples):
        yield {"axis": place, "rounding": rounding, "signs": s, "rule": rule, "samples": n, "seed": 12345678901}


def inputs_of(shape):
    x = random(*shape, seed=5, spread=2.0)
    yield x
    yield x * 1e-34  # scales of which only a division gives the last bit
    if len(shape) == 4:
        yield x.contiguous(memory_format=torch.channels_last)

"""Values as blocks of a format would give them back, along any axis: what training with simulated quantization is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, get_args

import torch
from torch import Tensor

from netweight import native
from netweight.errors import FormatError
from netweight.formats import _round_native, _round_reference, _round_triton
from netweight.formats._format import Format, get
from netweight.formats._layout import Layout, dense, empty_beside, layout

Rule = str | float
Scaling = Literal["amax", "four-over-six"]
Scales = Literal["stored", "float32"]
TRANSFORMER_ENGINE_SIGNS = (1, 1, 1, -1, 1, -1, -1, -1, -1, -1, -1, 1, -1, 1, -1, -1)
ON_A_GPU = ("nvfp4", "nvfp4-2d", "mxfp4")  # formats that the GPU's kernels know
FAMILIES = ("nvfp4", "mx", "minifloat", "integer")


@dataclass(frozen=True)
class Request:
    """What is asked of ``round_blocks``, checked: everything but the numbers and the seed."""

    format: Format
    ratio: float  # of a block's largest magnitude that becomes the end of its range
    four_over_six: bool
    signs: int  # bit i: element i of each 16 changes sign; -1: no transform


def round_blocks(
    x: Tensor,
    format: str,
    *,
    axis: int | tuple[int, int],
    rounding: Literal["nearest", "stochastic"] = "nearest",
    seed: int = 0,
    signs: tuple[int, ...] | None = None,
    rule: Rule = "amax",
    scales: Scales = "stored",
    samples: int = 1,
    out: Tensor | None = None,
) -> Tensor:
    """x after quantization and dequantization, with x's shape and strides, float32. No gradient.

    Args:
      x: any shape and strides; other float types are converted to float32 first.
      format: "nvfp4" (16 elements share a scale), "nvfp4-2d" (16 x 16), "mxfp4" (32), or a symmetric format of ``formats.get``:
        "int8-sym-g32", "e4m3-tensor", "e5m2-g64", "int4-sym-channel", … ("channel": everything along the axis, "tensor": all).
      axis: blocks lie along it; for "nvfp4-2d" a pair. A last block that is shorter has its own scale; nothing is padded.
      rounding: "stochastic" takes one of the two neighbours, the nearer with the larger probability. A draw has 22 bits and is
        a function of ``seed`` and of the element's place in memory: threads, instruction sets and what ran before do not count.
      seed: 64 bits.
      signs: 16 of 1 and -1: each whole group of 16 along the axis is multiplied by them and by Sylvester's H16 / 4, rounded
        there, and turned back (a random Hadamard transform; a shorter last group is left as it is). A product over that axis
        of two operands turned alike is the product of what was rounded, since the transform is orthonormal. Sums of 16 must not overflow.
      rule: "amax"; "four-over-six": a block's maximum becomes 6 or 4, what errs less (NVFP4 only); "clip:0.9" or 0.9: the
        range ends at this part of the maximum.
      scales: "stored": as the format keeps them in a file, integers' in float16, which ends at 65,504 and loses what is below 6e-8. "float32": for
        what no file holds, such as inputs and gradients. Other formats' scales are the same either way.
      samples: so many equal slices of dimension 0 have a second-level scale each; 1: one for the whole tensor.
      out: where the result goes, of x's shape and strides; may be x.
    Returns:
      The values. A sample that holds NaN or infinity is NaN throughout.
    Raises:
      FormatError: no such axis, a format that is not symmetric, an empty tensor, a rule the format does not have.
      UnknownName: no such format.
    Source: NVFP4: arXiv 2509.25149 and Transformer Engine's order of operations (see ``nvfp4``), which also rounds transformed
      values to bfloat16, and this does not; "four-over-six": arXiv 2512.02010 (with stochastic rounding, its unbiased form).
    """
    x, plan, request = _prepared(x, format, axis, rounding, signs, rule, scales, samples)
    result = _destination(x, out)
    _form(x, request)(result, x, plan, request, rounding == "stochastic", seed, samples)
    if out is not None and result is not out:
        return out.copy_(result)
    return result


def look_at_blocks(
    x: Tensor,
    format: str,
    *,
    axis: int | tuple[int, int],
    rounding: Literal["nearest", "stochastic"] = "nearest",
    seed: int = 0,
    signs: tuple[int, ...] | None = None,
    rule: Rule = "amax",
    scales: Scales = "stored",
    samples: int = 1,
) -> tuple[Tensor, Tensor, Tensor]:
    """What happens inside ``round_blocks`` with the same arguments, in plain torch operations.

    Returns:
      three tensors of one shape, with x's elements in an order of their own: what is rounded (x, or x after the transform), what it is
      rounded to, and the largest magnitude on its side of 0 that its block's scale can give.
    Raises:
      as ``round_blocks``.
    """
    x, plan, request = _prepared(x, format, axis, rounding, signs, rule, scales, samples)
    return _round_reference.look(x, plan, request, rounding == "stochastic", seed, samples)


def _prepared(
    x: Tensor,
    format: str,
    axis: int | tuple[int, int],
    rounding: str,
    signs: tuple[int, ...] | None,
    rule: Rule,
    scales: Scales,
    samples: int,
) -> tuple[Tensor, Layout, Request]:
    request = requested(format, rule, signs, scales)
    if rounding not in ("nearest", "stochastic"):
        raise FormatError(f'rounding = {rounding!r}: "nearest" or "stochastic"')
    if x.dtype != torch.float32:
        x = x.float()
    x = dense(x.detach(), samples)
    if x.numel() == 0 or x.dim() == 0:
        raise FormatError(f"{format}: a tensor of shape {tuple(x.shape)} holds no blocks")
    return x, layout(tuple(x.shape), x.stride(), axis, request.format.rows, samples), request


def _form(x: Tensor, request: Request) -> Callable[[Tensor, Tensor, Layout, Request, bool, int, int], None]:
    """Which of the three, all of the same bits, is fastest here."""
    if x.device.type == "cpu" and _round_native.serves(request) and native.missing() is None:
        return _round_native.round_into
    known = request.format.name.removesuffix("-ragged") in ON_A_GPU
    if known and x.device.type == "cuda" and _round_triton.there():
        return _round_triton.round_into
    return _round_reference.round_into


def _destination(x: Tensor, out: Tensor | None) -> Tensor:
    if out is None:
        return empty_beside(x)
    if out.shape != x.shape or out.dtype != torch.float32:
        raise FormatError(f"out is {tuple(out.shape)} {out.dtype}, but {tuple(x.shape)} torch.float32 is needed")
    return out if out.stride() == x.stride() else empty_beside(x)


@lru_cache(1024)
def requested(name: str, rule: Rule, signs: tuple[int, ...] | None, scales: Scales = "stored") -> Request:
    """The request that names make, or why there is none. Raises: as ``round_blocks``."""
    format = get(name)
    if format.family not in FAMILIES or format.zero != "none" or format.two_level:
        raise FormatError(
            f"{name}: blocks are rounded in symmetric formats: nvfp4, nvfp4-2d, mxfp4, int8-sym-g32, e4m3-tensor, …"
        )
    if signs is not None and (len(signs) != 16 or any(s not in (1, -1) for s in signs)):
        raise FormatError(f"signs = {signs}: 16 numbers, each 1 or -1")
    if signs is not None and (format.rows > 1 or format.group % 16 or format.group <= 0):
        raise FormatError(f"{name}: the transform needs blocks along one axis, of a multiple of 16 elements")
    four_over_six = rule == "four-over-six"
    if four_over_six and format.family != "nvfp4":
        raise FormatError(f"{name}: the rule four-over-six is NVFP4's")
    if scales not in get_args(Scales):
        raise FormatError(f'scales = {scales!r}: "stored" or "float32"')
    if scales == "float32" and format.scale == "fp16":
        format = replace(format, scale="fp32")
    bits = -1 if signs is None else sum(1 << i for i, sign in enumerate(signs) if sign < 0)
    return Request(format, _ratio(rule), four_over_six, bits)


def check_rounding(format: str, rule: Rule = "amax", hadamard: bool = False) -> None:
    """Whether ``round_blocks`` takes these together. Raises: FormatError, UnknownName: why it does not."""
    requested(format, rule, TRANSFORMER_ENGINE_SIGNS if hadamard else None)


def _ratio(rule: Rule) -> float:
    if rule in ("amax", "four-over-six"):
        return 1.0
    try:
        ratio = float(str(rule).removeprefix("clip:"))
    except ValueError:
        ratio = float("nan")
    if not 0 < ratio <= 4:
        raise FormatError(
            f'rule = {rule!r}: "amax", "four-over-six", or the part of the maximum to keep, as "clip:0.9"'
        )
    return ratio

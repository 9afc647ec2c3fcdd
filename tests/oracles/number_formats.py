"""Oracle of the group formats in NumPy: float32 where the format says float32, every scale spread out to its elements.

Spreading makes all later steps elementwise: a column of a weight is rounded with the same column of the spread scales,
which is what the method oracles need. Sources: the affine integer quantizer of OmniQuant (arXiv 2308.13137) with the
range extended to hold zero; OCP Microscaling Formats v1.0, section 6.3; NVFP4 in the arithmetic order of Transformer
Engine; NF4 of QLoRA (arXiv 2305.14314).
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from oracles import minifloats

F32 = np.float32
FLOAT_MAX = np.finfo(np.float32).max
NF4_NEGATIVE = [-1, -0.69619, -0.52507, -0.39492, -0.28444, -0.18477, -0.09105]
NF4_POSITIVE = [0.07958, 0.16093, 0.24611, 0.33792, 0.44071, 0.56262, 0.72296, 1]
NF4 = np.array([*NF4_NEGATIVE, 0, *NF4_POSITIVE])  # as published, to five digits: no bits can be compared with it


@dataclass(frozen=True)
class Row:
    """A format's name, taken apart."""

    kind: Literal["int", "float", "mx", "nvfp4", "ternary"]
    bits: int
    element: str = ""  # minifloat of the elements
    symmetric: bool = False
    float_zero: bool = False
    group: int = 0  # columns that share a scale; 0 the whole row, -1 the whole tensor
    rows: int = 1  # rows that share a scale
    ragged: bool = False
    steps: int = 0  # two-level: a group's scale is a whole number of these parts of the row's scale


def parse(name: str) -> Row:
    """The row of a format name, read from the grammar of names alone."""
    ragged = name.endswith("-ragged")
    name = name.removesuffix("-ragged")
    if m := re.fullmatch(r"int([2-8])(-sym)?-(g\d+|channel|tensor)(-fz|-s6|-s8)?", name):
        steps = {"-s6": 64, "-s8": 256}.get(m[4], 0)
        return Row("int", int(m[1]), "", bool(m[2]), m[4] == "-fz", _group(m[3]), 1, ragged, steps)
    if m := re.fullmatch(r"(e2m1|e4m3|e5m2)-(g\d+|channel|tensor)", name):
        return Row("float", minifloats.KINDS[m[1]].bits, m[1], group=_group(m[2]), ragged=ragged)
    if m := re.fullmatch(r"mxfp[468](?:-(e2m3|e3m2|e4m3|e5m2))?", name):
        element = m[1] or "e2m1"
        return Row("mx", minifloats.KINDS[element].bits, element, group=32, ragged=ragged)
    if name in ("nvfp4", "nvfp4-2d"):
        return Row("nvfp4", 4, "e2m1", group=16, rows=16 if name == "nvfp4-2d" else 1, ragged=ragged)
    if m := re.fullmatch(r"ternary-(g\d+|channel|tensor)", name):
        return Row("ternary", 2, group=_group(m[1]), ragged=ragged)
    raise ValueError(f"the oracle knows no format {name!r}")


def _group(text: str) -> int:
    return {"channel": 0, "tensor": -1}.get(text) if not text.startswith("g") else int(text[1:])  # pyright: ignore


def column_groups(row: Row, columns: int) -> list[slice]:
    """The groups along a row; the last may be short."""
    width = row.group if row.group > 0 else columns
    return [slice(start, min(start + width, columns)) for start in range(0, columns, width)]


@dataclass(frozen=True)
class Fitted:
    """Scales and zeros of a weight, one per element (float32, already rounded to what the format stores)."""

    row: Row
    scale_OI: np.ndarray
    zero_OI: np.ndarray | None = None
    multiplier_OI: np.ndarray | None = None  # nvfp4: what elements are multiplied by
    tensor_scale: np.float32 | None = None  # nvfp4: S_enc

    def column(self, j: int) -> Fitted:
        """The same for column ``j`` alone, as (O, 1)."""
        at = slice(j, j + 1)
        cut = {k: getattr(self, k) for k in ("scale_OI", "zero_OI", "multiplier_OI")}
        return replace(self, **{k: None if v is None else v[:, at] for k, v in cut.items()})

    def compact(self, which: np.ndarray) -> np.ndarray:
        """(rows of scales, G): the first element of every group of a spread array."""
        if self.row.group == -1:
            return which[:1, :1]
        starts = [g.start for g in column_groups(self.row, which.shape[1])]
        return which[:: self.row.rows, starts]


def fit(name: str, weight_OI: np.ndarray, ratio_OG: np.ndarray | float = 1.0) -> Fitted:
    """Min/max scales of a weight whose ranges are first shrunk by ``ratio`` (one per row and group)."""
    row = parse(name)
    w = np.asarray(weight_OI, dtype=F32)
    if row.kind == "nvfp4":
        return _fit_nvfp4(row, w)
    scale, zero = np.zeros_like(w), np.zeros_like(w)
    groups = column_groups(row, w.shape[1])
    if row.steps:
        return _fit_two_level(row, w, groups, ratio_OG)
    ratio = np.broadcast_to(np.asarray(ratio_OG, dtype=F32), (w.shape[0], len(groups)))
    for g, columns in enumerate(groups):
        blocks = [slice(0, w.shape[0])] if row.group == -1 else [slice(o, o + 1) for o in range(w.shape[0])]
        for rows in blocks:
            s, z = _fit_group(row, w[rows, columns], ratio[rows, g].flat[0])
            scale[rows, columns], zero[rows, columns] = s, z
    return Fitted(row, scale, zero if row.kind == "int" else None)


def _fit_group(row: Row, w: np.ndarray, ratio: np.float32) -> tuple[np.float32, np.float32]:
    amax = F32(np.abs(w).max() * ratio)
    if row.kind == "mx":
        return F32(2.0 ** max(_floor_log2(amax) - minifloats.EMAX[row.element], -127)), F32(0)
    if row.kind == "float":
        return amax / F32(minifloats.maximum(row.element)), F32(0)
    if row.kind == "ternary":
        return F32(np.float16(np.abs(w.astype(np.float64)).mean())), F32(0)
    top = F32(2**row.bits - 1)
    if row.symmetric:
        return F32(np.float16(amax * F32(2) / top)), F32(2 ** (row.bits - 1))
    low, high = F32(min(w.min(), 0) * ratio), F32(max(w.max(), 0) * ratio)
    scale = F32(np.float16((high - low) / top))
    if scale == 0:
        return scale, F32(0)
    if row.float_zero:
        return scale, F32(np.float16(-low / scale))
    return scale, F32(np.clip(np.rint(-low / scale), 0, top))


def _fit_two_level(row: Row, w: np.ndarray, groups: list[slice], ratio_OG: np.ndarray | float) -> Fitted:
    """Row by row: the largest wanted scale sets the row's float16 scale, the others count its parts, at least one."""
    ratio = np.broadcast_to(np.asarray(ratio_OG, dtype=F32), (w.shape[0], len(groups)))
    top, scale, zero = F32(2**row.bits - 1), np.zeros_like(w), np.zeros_like(w)
    for o in range(w.shape[0]):
        low = [F32(min(w[o, g].min(), 0) * r) for g, r in zip(groups, ratio[o], strict=True)]
        high = [F32(max(w[o, g].max(), 0) * r) for g, r in zip(groups, ratio[o], strict=True)]
        if row.symmetric:
            wanted = [F32(max(-a, b) * F32(2) / top) for a, b in zip(low, high, strict=True)]
        else:
            wanted = [F32((b - a) / top) for a, b in zip(low, high, strict=True)]
        whole = F32(np.float16(max(wanted) * F32(row.steps / (row.steps - 1))))
        for g, want, a in zip(groups, wanted, low, strict=True):
            parts = np.clip(np.rint(want / whole * F32(row.steps)), 1, row.steps - 1) if want > 0 and whole > 0 else 0
            scale[o, g] = F32(parts) / F32(row.steps) * whole
            if row.symmetric:
                zero[o, g] = F32(2 ** (row.bits - 1))
            elif scale[o, g][0] > 0:
                zero[o, g] = np.clip(np.rint(-a / scale[o, g][0]), 0, top)
    return Fitted(row, scale, zero)


def _floor_log2(amax: np.float32) -> int:
    return int(np.frexp(np.float64(amax))[1]) - 1 if amax > 0 else -1000


def _fit_nvfp4(row: Row, w: np.ndarray) -> Fitted:
    """S_enc = 2688 / amax; block scale = E4M3(amax_block * (S_enc * (1/6))); all in float32, in this order."""
    grid = minifloats.values("e4m3")
    amax = np.abs(w).max()
    with np.errstate(divide="ignore", over="ignore"):
        encode = F32(min(F32(2688) / amax, FLOAT_MAX)) if amax > 0 else F32(1)
    sixth = encode * (F32(1) / F32(6))
    decode = F32(1) / encode
    starts = [g.start for g in column_groups(row, w.shape[1])]
    largest = np.maximum.reduceat(np.abs(w), starts, axis=1)
    largest = np.maximum.reduceat(largest, range(0, w.shape[0], row.rows), axis=0)
    scale = grid[minifloats.nearest("e4m3", np.minimum(largest * sixth, F32(448)))].astype(F32)
    with np.errstate(divide="ignore", over="ignore"):
        multiplier = np.minimum(F32(1) / (scale * decode), FLOAT_MAX)
    tile = np.ones((row.rows, row.group), dtype=F32)
    spread = [np.kron(a, tile)[: w.shape[0], : w.shape[1]] for a in (scale, multiplier)]
    return Fitted(row, spread[0], None, spread[1], encode)


def codes(fitted: Fitted, weight: np.ndarray) -> np.ndarray:
    """uint8 codes, rounded to nearest, computed in the dtype of ``weight``: float32 for bits, float64 in methods.

    Where the scale is 0 every code stands for 0; an integer format then gets its zero point.
    """
    row = fitted.row
    w = np.asarray(weight)
    dtype = np.float64 if w.dtype == np.float64 else F32
    w = w.astype(dtype)
    if row.kind == "nvfp4":
        assert fitted.multiplier_OI is not None
        limit = dtype(6)
        with np.errstate(over="ignore"):
            scaled = np.clip(w * fitted.multiplier_OI.astype(dtype), -limit, limit)
        return minifloats.nearest("e2m1", scaled)
    scale = fitted.scale_OI.astype(dtype)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        u = np.where(scale > 0, w / scale, dtype(0)).astype(dtype)
    if row.kind in ("float", "mx"):
        return minifloats.nearest(row.element, u)
    if row.kind == "ternary":
        return (np.clip(np.rint(u), -1, 1) + 1).astype(np.uint8)
    assert fitted.zero_OI is not None
    zero = fitted.zero_OI.astype(dtype)
    u = np.rint(u + zero) if row.float_zero else np.rint(u) + zero
    return np.clip(u, 0, 2**row.bits - 1).astype(np.uint8)


def values(fitted: Fitted, code: np.ndarray) -> np.ndarray:
    """float32 values of codes, in the format's own order of operations."""
    row = fitted.row
    if row.kind == "int":
        assert fitted.zero_OI is not None
        return (code.astype(F32) - fitted.zero_OI) * fitted.scale_OI
    if row.kind == "ternary":
        return (code.astype(F32) - F32(1)) * fitted.scale_OI
    element = minifloats.values(row.element)[code].astype(F32)
    if row.kind == "nvfp4":
        assert fitted.tensor_scale is not None
        return (element * fitted.scale_OI) / fitted.tensor_scale
    return element * fitted.scale_OI


def quantized(name: str, weight_OI: np.ndarray, ratio_OG: np.ndarray | float = 1.0) -> np.ndarray:
    """float64 values of ``weight`` after rounding to the format."""
    w = np.asarray(weight_OI, dtype=F32)
    fitted = fit(name, w, ratio_OG)
    return values(fitted, codes(fitted, w)).astype(np.float64)


def signed_integers(x: np.ndarray, bits: int, group: int) -> np.ndarray:
    """Rows in groups, each with a float32 scale of 2 max / (2^bits - 1) that no file has to hold."""
    found = np.empty_like(x, dtype=F32)
    for row, into in zip(x, found, strict=True):
        for k in range(0, len(row), group):
            part = row[k : k + group]
            scale = np.abs(part).max() * F32(2) / F32(2**bits - 1)
            units = np.rint(part / scale) if scale else np.zeros_like(part)
            into[k : k + group] = np.clip(units, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1) * scale
    return found


def four_over_six(weight_OI: np.ndarray) -> np.ndarray:
    """float32 values of NVFP4 where each block's maximum becomes 6 or 4, whichever errs less in squares; 6 in doubt.

    S_enc = 6 * 256 / amax, so that a scale half as large again is still an E4M3 number (arXiv 2512.02010). The last block of a row
    may be shorter. Errors are summed in float64, so that blocks whose two errors agree to seven digits may fall to the other side.
    """
    w = np.asarray(weight_OI, dtype=F32)
    grid = minifloats.values("e4m3")
    amax = np.abs(w).max()
    encode = F32(1536) / amax if amax > 0 else F32(1)
    sixth, decode, out = encode * (F32(1) / F32(6)), F32(1) / encode, np.zeros_like(w)
    for o, start in itertools.product(range(w.shape[0]), range(0, w.shape[1], 16)):
        block = w[o, start : start + 16]
        tried = []
        for widen in (F32(1), F32(1.5)):
            wanted = min(np.abs(block).max() * sixth * widen, F32(448))
            scale = F32(grid[minifloats.nearest("e4m3", np.array([wanted]))][0])
            units = np.clip(block * (F32(1) / (scale * decode)), F32(-6), F32(6)) if scale > 0 else np.zeros_like(block)
            values = minifloats.values("e2m1")[minifloats.nearest("e2m1", units)].astype(F32)
            tried.append(values * scale / encode)
        errors = [np.square(values.astype(np.float64) - block).sum() for values in tried]
        out[o, start : start + 16] = tried[int(errors[1] < errors[0])]
    return out


def tie_distance(fitted: Fitted, weight: np.ndarray) -> np.ndarray:
    """How far ``w / scale + zero`` is from the nearest point where the code changes; float64, unit: one scale.

    Infinite where the scale is 0, for nothing can change there.
    """
    row = fitted.row
    w = np.asarray(weight, dtype=np.float64)
    if row.kind == "int":
        assert fitted.zero_OI is not None
        grid, shift = np.arange(2.0**row.bits), fitted.zero_OI.astype(np.float64)
    elif row.kind == "ternary":
        grid, shift = np.array([-1.0, 0, 1]), 0.0
    else:
        half = minifloats.magnitudes(row.element)
        grid, shift = np.concatenate([-half[:0:-1], half]), 0.0
    with np.errstate(divide="ignore"):
        per_unit = 1 / fitted.scale_OI.astype(np.float64)
    if fitted.multiplier_OI is not None:
        per_unit = fitted.multiplier_OI.astype(np.float64)
    dead = ~(fitted.scale_OI > 0)
    u = w * np.where(dead, 0, per_unit) + shift
    middles = (grid[:-1] + grid[1:]) / 2
    distance = np.abs(u[..., None] - middles).min(axis=-1)
    return np.where(dead, np.inf, distance)


def fit_tie_distance(name: str, weight_OI: np.ndarray) -> np.ndarray:
    """(O, G): how far an integer format's scale (in fp16 steps) and zero are from rounding the other way.

    For methods that fit scales to weights they have changed themselves: below 1e-6 another order of summation may store
    another scale.
    """
    row = parse(name)
    w = np.asarray(weight_OI, dtype=np.float64)
    out = []
    for columns in column_groups(row, w.shape[1]):
        part = w[:, columns]
        low, high = np.minimum(part.min(1), 0), np.maximum(part.max(1), 0)
        span = 2 * np.abs(part).max(1) if row.symmetric else high - low
        exact = span / (2**row.bits - 1)
        stored = exact.astype(np.float16)
        step = np.spacing(stored).astype(np.float64)
        distance = np.abs(np.abs(exact - stored.astype(np.float64)) / step - 0.5)
        if not row.symmetric and not row.float_zero:
            with np.errstate(divide="ignore", invalid="ignore"):
                zero = np.where(stored > 0, -low / stored.astype(np.float64), 0.0)
            distance = np.minimum(distance, np.abs(zero - np.floor(zero) - 0.5))
        out.append(distance)
    return np.stack(out, axis=1)

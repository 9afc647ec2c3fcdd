"""The same matrices on a CUDA GPU: products written in Triton that read the tiles as the CPU's kernels do.

A tile holds 32 rows, so that the lanes of a warp that read one row each read neighbouring words. Activations keep their float
type; sums are float32. Few rows of x take ``_few``: no weight is rounded, columns are shared among programs and their sums added
in a fixed order. More rows take ``_many``: weights are rounded to the type of x for the tensor cores.

With ``TRITON_INTERPRET=1`` set before the first use everything here runs on CPU tensors, slowly: for tests.
"""

# Triton reads the source of what it compiles: no postponed annotations here, and names in capitals are its constants.
# pyright: basic, reportArgumentType=false, reportAttributeAccessIssue=false, reportIndexIssue=false, reportOperatorIssue=false, reportAssignmentType=false, reportGeneralTypeIssues=false
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from netweight.errors import KernelError
from netweight.runtime.kernels._matrix import BLOCK, E2M1, E4M3, INT2, INT3, INT4, INT8, TILE, Spec

FEW = 8  # rows of x that are still read weight by weight
ENOUGH = 512  # programs that fill a large GPU
WIDE = 128  # rows of W that one program of `_many` takes

_TILE, _BLOCK, _CHUNK = tl.constexpr(TILE), tl.constexpr(BLOCK), tl.constexpr(4 * TILE)
_INT2, _INT3, _INT4, _INT8 = (tl.constexpr(kind) for kind in (INT2, INT3, INT4, INT8))
_E2M1, _E4M3 = tl.constexpr(E2M1), tl.constexpr(E4M3)
_NONE, _F16, _U8, _E4M3_SCALE, _E8M0 = (tl.constexpr(i) for i in range(5))
_PER_GROUP_CODE, _PER_GROUP_HALF, _PER_ROW = (tl.constexpr(i) for i in range(1, 4))
_BLOCK_BITS = {INT2: 2, INT3: 3, INT4: 4, INT8: 8, E2M1: 4, E4M3: 8}
_SCALE_BYTES, _ZERO_BYTES = (0, 2, 1, 1, 1, 4), (0, 1, 2, 0)


@triton.jit
def _e4m3(code):
    """Value of an E4M3 code."""
    magnitude = (code & 0x7F).to(tl.int32)
    normal = ((magnitude << 20) + (120 << 23)).to(tl.float32, bitcast=True)
    value = tl.where(magnitude < 8, magnitude.to(tl.float32) * 0.001953125, normal)
    return tl.where((code & 0x80) != 0, -value, value)


@triton.jit
def _value(code, KIND: tl.constexpr):
    """What a code stands for, before its zero and scale; E2M1 counts in halves."""
    if KIND == _E2M1:
        doubled = ((tl.full(code.shape, 0xC8643210, tl.int64) >> (4 * (code & 7)).to(tl.int64)) & 15).to(tl.float32)
        return tl.where((code & 8) != 0, -doubled, doubled)
    elif KIND == _E4M3:
        return _e4m3(code)
    else:
        return code.to(tl.float32)


@triton.jit
def _scaled(
    value,
    bytes_,
    halves,
    floats,
    row_zero,
    at,
    group,
    row,
    lane,
    LAYOUT: tl.constexpr,
):
    """(value - zero) * scale. ``at``: byte where the unit begins; ``row`` of the matrix, ``lane`` of its tile."""
    index = group * _TILE + lane
    zeros = at + LAYOUT.groups * _TILE * LAYOUT.scale_bytes
    if LAYOUT.zero == _PER_ROW:
        value -= tl.load(row_zero + row)
    elif LAYOUT.zero == _PER_GROUP_CODE:
        value -= tl.load(bytes_ + zeros + index).to(tl.float32)
    elif LAYOUT.zero == _PER_GROUP_HALF:
        value -= tl.load(halves + zeros // 2 + index).to(tl.float32)
    else:
        value -= LAYOUT.offset
    if LAYOUT.scale == _NONE:
        return value
    elif LAYOUT.scale == _F16:
        return value * tl.load(halves + at // 2 + index).to(tl.float32)
    elif LAYOUT.scale == _U8:
        return value * tl.load(bytes_ + at + index).to(tl.float32)
    elif LAYOUT.scale == _E4M3_SCALE:
        return value * (_e4m3(tl.load(bytes_ + at + index)) * 0.00390625)
    elif LAYOUT.scale == _E8M0:
        code = tl.load(bytes_ + at + index).to(tl.int32)
        return value * tl.where(code == 0, 0x00400000, code << 23).to(tl.float32, bitcast=True)
    else:
        return value * tl.load(floats + at // 4 + index)


@triton.jit
def _codes(bytes_, at, column, lane, KIND: tl.constexpr):
    """Codes of a block's columns, each read by its byte. ``at``: where the block's codes begin."""
    chunk = column // 4
    place = at + lane * 4 + column % 4
    if KIND == _INT4 or KIND == _E2M1:  # noqa: SIM109 (Triton has no `in`)
        return (tl.load(bytes_ + place + chunk // 2 * _CHUNK).to(tl.int32) >> (chunk % 2 * 4)) & 15
    elif KIND == _INT2:
        return (tl.load(bytes_ + place + chunk // 4 * _CHUNK).to(tl.int32) >> (chunk % 4 * 2)) & 3
    elif KIND == _INT3:
        pair = place + chunk // 8 * (3 * _CHUNK)
        low = (tl.load(bytes_ + pair + chunk % 8 // 4 * _CHUNK).to(tl.int32) >> (chunk % 4 * 2)) & 3
        plane = (0x05317642 >> (chunk % 8 * 4)) & 7  # the bit of the third plane that belongs to the chunk
        return low | (((tl.load(bytes_ + pair + 2 * _CHUNK).to(tl.int32) >> plane) & 1) << 2)
    else:
        return tl.load(bytes_ + place + chunk * _CHUNK).to(tl.int32)


@triton.jit
def _few(
    words,
    bytes_,
    halves,
    floats,
    row_scale,
    row_zero,
    x,
    y,
    rows,
    outputs,
    inputs,
    units,
    share,
    tile_bytes,
    unit_bytes,
    ROWS: tl.constexpr,
    LAYOUT: tl.constexpr,
):
    """One tile times some units of x's columns: y (shares, rows, outputs) float32."""
    tile, part = tl.program_id(0), tl.program_id(1)
    lane = tl.arange(0, _TILE)[None, :]
    row = tile * _TILE + lane
    WORDS: tl.constexpr = 4 if LAYOUT.kind == _INT3 else LAYOUT.block_bytes // _CHUNK
    PLANES: tl.constexpr = 16 // WORDS
    BITS: tl.constexpr = 2 if LAYOUT.kind == _INT3 else 8 // PLANES
    MASK: tl.constexpr = 3 if BITS == 2 else 15 if BITS == 4 else 255
    word = tl.arange(0, WORDS)[:, None]
    place = (word // 2 * 3 + word % 2 if LAYOUT.kind == _INT3 else word) * _TILE + lane
    number = tl.arange(0, ROWS)[:, None]
    total = tl.zeros((ROWS, _TILE), tl.float32)
    for unit in range(part * share, tl.minimum(part * share + share, units)):
        at = tile.to(tl.int64) * tile_bytes + unit * unit_bytes
        for block in tl.static_range(LAYOUT.unit // _BLOCK):
            begin = (at + LAYOUT.header + block * LAYOUT.block_bytes) // 4
            first = unit * LAYOUT.unit + block * _BLOCK + tl.arange(0, WORDS)[None, :] * (4 * PLANES)
            low = tl.load(words + begin + place)
            high = tl.load(words + begin + (word // 2 * 3 + 2) * _TILE + lane) if LAYOUT.kind == _INT3 else low
            for plane in tl.static_range(PLANES):
                chunk = word * PLANES + plane
                group = (block * _BLOCK + chunk * 4) // LAYOUT.group
                for i in tl.static_range(4):
                    code = (low >> (8 * i + BITS * plane)) & MASK
                    if LAYOUT.kind == _INT3:
                        bit = (0x05317642 >> (chunk % 8 * 4)) & 7
                        code = code | (((high >> (bit + 8 * i)) & 1) << 2)
                    value = _value(code, LAYOUT.kind)
                    w = _scaled(value, bytes_, halves, floats, row_zero, at, group, row, lane, LAYOUT)
                    column = first + 4 * plane + i
                    seen = tl.load(x + number * inputs + column, mask=(number < rows) & (column < inputs), other=0.0)
                    total += tl.sum(seen.to(tl.float32)[:, :, None] * w[None, :, :], axis=1)
    total *= tl.load(row_scale + row)
    tl.store(y + (part * rows + number) * outputs + row, total, mask=(number < rows) & (row < outputs))


@triton.jit
def _many(
    bytes_,
    halves,
    floats,
    row_scale,
    row_zero,
    x,
    bias,
    y,
    rows,
    outputs,
    inputs,
    units,
    tiles,
    tile_bytes,
    unit_bytes,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    BIAS: tl.constexpr,
    LAYOUT: tl.constexpr,
):
    """ROWS rows of x times COLUMNS rows of W, a block of 64 columns at a time."""
    out = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    held = tl.minimum(out, tiles * _TILE - 1)  # no tile beyond the last
    lane, tile = held % _TILE, held // _TILE
    number = tl.program_id(1) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.arange(0, _BLOCK)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for unit in range(units):
        at = tile.to(tl.int64) * tile_bytes + unit * unit_bytes
        for block in tl.static_range(LAYOUT.unit // _BLOCK):
            code = _codes(bytes_, at + (LAYOUT.header + block * LAYOUT.block_bytes), column[:, None], lane, LAYOUT.kind)
            group = (block * _BLOCK + column[:, None]) // LAYOUT.group
            value = _value(code, LAYOUT.kind)
            w = _scaled(value, bytes_, halves, floats, row_zero, at, group, held, lane, LAYOUT)
            read = unit * LAYOUT.unit + block * _BLOCK + column[None, :]
            seen = tl.load(x + number * inputs + read, mask=(number < rows) & (read < inputs), other=0.0)
            total = tl.dot(seen, w.to(seen.dtype), total, input_precision="ieee")
    total *= tl.load(row_scale + held)
    if BIAS:
        total += tl.load(bias + out, mask=out < outputs, other=0.0).to(tl.float32)
    tl.store(
        y + number.to(tl.int64) * outputs + out, total.to(y.dtype.element_ty), mask=(number < rows) & (out < outputs)
    )


@triton.jit
def _rows(
    bytes_,
    halves,
    floats,
    row_scale,
    row_zero,
    index,
    y,
    inputs,
    tile_bytes,
    unit_bytes,
    LAYOUT: tl.constexpr,
):
    """One unit of one row, decoded to float32."""
    number, unit = tl.program_id(0), tl.program_id(1)
    row = tl.load(index + number)
    lane = row % _TILE
    at = row // _TILE * tile_bytes + unit * unit_bytes
    for block in tl.static_range(LAYOUT.unit // _BLOCK):
        column = tl.arange(0, _BLOCK)
        code = _codes(bytes_, at + (LAYOUT.header + block * LAYOUT.block_bytes), column, lane, LAYOUT.kind)
        group = (block * _BLOCK + column) // LAYOUT.group
        w = _scaled(_value(code, LAYOUT.kind), bytes_, halves, floats, row_zero, at, group, row, lane, LAYOUT)
        to = unit * LAYOUT.unit + block * _BLOCK + column
        tl.store(y + number.to(tl.int64) * inputs + to, w * tl.load(row_scale + row), mask=to < inputs)


def linear(
    x: Tensor, data: Tensor, row_scale: Tensor, row_zero: Tensor | None, bias: Tensor | None, spec: Spec
) -> Tensor:
    """x (..., I) times the transpose of an (O, I) matrix, plus bias: (..., O), all on one device.

    Raises:
      KernelError: shapes or devices do not match.
    """
    _check(spec, x, data, row_scale, row_zero, bias)
    if x.shape[-1] != spec.inputs:
        raise KernelError(f"x has {x.shape[-1]} columns, the matrix {spec.outputs} x {spec.inputs}")
    x_MI = x.reshape(-1, spec.inputs).contiguous()
    rows, shape = len(x_MI), _Shape(spec)
    if rows == 0:
        return x.new_empty(*x.shape[:-1], spec.outputs)
    zero = row_scale if row_zero is None else row_zero
    if rows <= FEW:
        parts = max(1, min(shape.units, ENOUGH // shape.tiles))
        share = -(-shape.units // parts)
        parts = -(-shape.units // share)
        sums = torch.empty(parts, rows, spec.outputs, device=x.device)
        _few[(shape.tiles, parts)](
            data.view(torch.int32), *_views(data), row_scale, zero, x_MI, sums, rows, spec.outputs, spec.inputs, shape.units, share,
            shape.tile_bytes, shape.unit_bytes, ROWS=1 << (rows - 1).bit_length(), LAYOUT=shape.layout,
        )  # fmt: skip
        y_MO = sums.sum(0)
        y_MO = y_MO if bias is None else y_MO + bias.float()
    else:
        y_MO = torch.empty(rows, spec.outputs, device=x.device, dtype=x.dtype)
        height = 16 if rows <= 16 else 32 if rows <= 32 else 64
        grid = (-(-spec.outputs // WIDE), -(-rows // height))
        _many[grid](
            *_views(data), row_scale, zero, x_MI, row_scale if bias is None else bias, y_MO, rows, spec.outputs, spec.inputs,
            shape.units, shape.tiles, shape.tile_bytes, shape.unit_bytes, ROWS=height, COLUMNS=WIDE, BIAS=bias is not None,
            LAYOUT=shape.layout,
        )  # fmt: skip
    return y_MO.to(x.dtype).reshape(*x.shape[:-1], spec.outputs)


def rows(index_N: Tensor, data: Tensor, row_scale: Tensor, row_zero: Tensor | None, spec: Spec) -> Tensor:
    """(N, I) float32: these rows, decoded. Raises: KernelError: devices do not match, or no such row."""
    _check(spec, index_N, data, row_scale, row_zero, None)
    if len(index_N) and (int(index_N.min()) < 0 or int(index_N.max()) >= spec.outputs):
        raise KernelError(f"rows of a {spec.outputs} x {spec.inputs} matrix: no such row")
    shape, out = _Shape(spec), torch.empty(len(index_N), spec.inputs, device=data.device)
    if len(index_N):
        _rows[(len(index_N), shape.units)](
            *_views(data), row_scale, row_scale if row_zero is None else row_zero, index_N.to(torch.int64).contiguous(), out,
            spec.inputs, shape.tile_bytes, shape.unit_bytes, LAYOUT=shape.layout,
        )  # fmt: skip
    return out


class _Layout(NamedTuple):
    """Where things lie in a unit; what ``netweight.h`` says, in numbers."""

    kind: int
    scale: int
    zero: int
    offset: int
    group: int
    unit: int
    groups: int  # of a unit
    scale_bytes: int  # of one group
    header: int
    block_bytes: int


class _Shape:
    """What a matrix' spec means to a kernel."""

    def __init__(self, spec: Spec) -> None:
        unit = 128 if spec.group == 128 else BLOCK
        groups = unit // spec.group if spec.group else 0
        block_bytes = TILE * BLOCK * _BLOCK_BITS[spec.kind] // 8
        header = groups * TILE * (_SCALE_BYTES[spec.scale] + _ZERO_BYTES[spec.zero])
        self.units, self.tiles = -(-spec.inputs // unit), -(-spec.outputs // TILE)
        self.unit_bytes = header + unit // BLOCK * block_bytes
        self.tile_bytes = self.units * self.unit_bytes
        self.layout = _Layout(
            spec.kind, spec.scale, spec.zero, spec.offset, spec.group or 128, unit, groups, _SCALE_BYTES[spec.scale], header,
            block_bytes,
        )  # fmt: skip


def _views(data: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same bytes as bytes, halves and floats."""
    return data, data.view(torch.float16), data.view(torch.float32)


def _check(spec: Spec, *tensors: Tensor | None) -> None:
    found = {tensor.device for tensor in tensors if tensor is not None}
    if len(found) != 1:
        raise KernelError(
            f"a {spec.outputs} x {spec.inputs} matrix and what it multiplies are on {found}, not on one device"
        )

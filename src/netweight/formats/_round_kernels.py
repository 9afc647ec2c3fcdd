"""The Triton kernels of ``_round_triton``. A program takes some blocks, each a row of a tile: ROWS x WIDTH elements side by side."""

# Triton reads the source of what it compiles: no postponed annotations here, and names in capitals are its constants.
# pyright: basic, reportArgumentType=false, reportAttributeAccessIssue=false, reportIndexIssue=false, reportOperatorIssue=false, reportAssignmentType=false, reportGeneralTypeIssues=false, reportInvalidTypeForm=false
import triton
import triton.language as tl

_EXPONENT, _SIGN = tl.constexpr(0x7F800000), tl.constexpr(-0x80000000)
_LARGEST = tl.constexpr(3.4028234663852886e38)


@triton.jit
def _bits(x):
    return x.to(tl.int32, bitcast=True)


@triton.jit
def _float(bits):
    return bits.to(tl.float32, bitcast=True)


@triton.jit
def _places(sizes, ROWS: tl.constexpr, WIDTH: tl.constexpr, BLOCKS: tl.constexpr):
    """Of each element: where it lies, whether it is there, the number of its row of a block, its column in the block; and the outer index of each block."""
    blocks, rows, mid, length, inner, across, down = sizes
    block = tl.program_id(0).to(tl.int64) * BLOCKS + tl.arange(0, BLOCKS).to(tl.int64)
    here = block % inner
    rest = block // inner
    column = rest % across
    rest = rest // across
    between = rest % mid
    rest = rest // mid
    row = rest % down
    outer = rest // down
    element = tl.arange(0, ROWS * WIDTH).to(tl.int64)[None, :]
    place = element % WIDTH
    there_row = row[:, None] * ROWS + element // WIDTH
    there_column = column[:, None] * WIDTH + place
    rows_before = outer[:, None] * rows + there_row
    line = rows_before * mid + between[:, None]
    at = (line * length + there_column) * inner + here[:, None]
    inside = (block < blocks)[:, None] & (there_row < rows) & (there_column < length)
    number = (line * across + column[:, None]) * inner + here[:, None]
    whole = (there_column // 16 * 16 + 16) <= length
    return block, outer, at, inside, number, place, whole


@triton.jit
def _butterfly(w, APART: tl.constexpr, WIDTH: tl.constexpr, BLOCKS: tl.constexpr):
    """Sums and differences of elements that lie so far apart."""
    pairs = tl.reshape(w, (BLOCKS * WIDTH // (2 * APART), 2, APART))
    a, b = tl.split(tl.permute(pairs, (0, 2, 1)))
    return tl.reshape(tl.permute(tl.join(a + b, a - b), (0, 2, 1)), (BLOCKS, WIDTH))


@triton.jit
def _turned(v, whole, place, BACK: tl.constexpr, SIGNS: tl.constexpr, WIDTH: tl.constexpr, BLOCKS: tl.constexpr):
    """The random Hadamard transform of every whole group of 16, butterfly by butterfly."""
    flip = ((SIGNS >> (place % 16)) & 1).to(tl.int32) << 31
    w = v if BACK else _float(_bits(v) ^ flip)
    for step in tl.static_range(4):
        w = _butterfly(w, 1 << step, WIDTH, BLOCKS)
    w = w * 0.25
    w = _float(_bits(w) ^ flip) if BACK else w
    return tl.where(whole, w, v)


@triton.jit
def _nvfp4_scale(wanted):
    """E4M3 of the smaller of it and 448, in float32: to the nearest, ties to even."""
    a = tl.minimum(wanted, 448.0)
    binade = tl.maximum(_bits(a) & _EXPONENT, 0x3C800000)  # 2^-6
    magic = _float(binade + 0x0A400000)  # 1.5 * 2^20 times as much: its last place is the step
    return (a + magic) - magic


@triton.jit
def _nvfp4_multiplier(scale, inverse):
    quotient = tl.div_rn(tl.full(scale.shape, 1.0, tl.float32), tl.where(scale > 0, scale * inverse, 1.0))
    return tl.where(scale > 0, tl.minimum(quotient, _LARGEST), 0.0)


@triton.jit
def _units(v, multiplier):
    return tl.maximum(tl.minimum(v * multiplier[:, None], 6.0), -6.0)


@triton.jit
def _nearest(y):
    """|y| <= 6; the sign of zero stays."""
    bits = _bits(y)
    magic = _float(tl.maximum(bits & _EXPONENT, 0x3F800000) + 0x0B400000)
    return _float(_bits((y + magic) - magic) | (bits & _SIGN))


@triton.jit
def _drawn(y, chance):
    """``chance``: 22 bits. Below 1 the step is that of the binade above."""
    a = tl.abs(y)
    one = tl.where(a < 1.0, 1.0, 0.0)
    up = _float((_bits(a + one) + chance) & -0x400000)
    return _float(_bits(up - one) | (_bits(y) & _SIGN))


@triton.jit
def _chance(number, place, low, high, WIDTH: tl.constexpr):
    """22 bits of a word that two elements of a block, half a block apart, share. Multipliers and shifts: C. Wellons, hash-prospector."""
    x = (number * (WIDTH // 2) + place % (WIDTH // 2)).to(tl.uint32)
    x = x ^ low
    x = (x ^ (x >> 16)) * 0x21F0AAAD + high
    x = (x ^ (x >> 15)) * 0xD35A2D97
    x = x ^ (x >> 15)
    return tl.where(place < WIDTH // 2, x & 0x003FFFFF, x >> 10).to(tl.int32)


@triton.jit
def _decoded(code, scale, level):
    return tl.div_rn(code * scale[:, None], tl.broadcast_to(level[:, None], code.shape))


@triton.jit
def _squared(v, scale, inverse, level, ELEMENTS: tl.constexpr, BLOCKS: tl.constexpr):
    """Squared error of each block, summed element by element."""
    off = _decoded(_nearest(_units(v, _nvfp4_multiplier(scale, inverse))), scale, level) - v
    element = tl.arange(0, ELEMENTS)[None, :]
    total = tl.zeros((BLOCKS,), tl.float32)
    for n in range(ELEMENTS):
        one = tl.sum(tl.where(element == n, off, 0.0), 1)
        total += one * one
    return total


@triton.jit
def measure(
    x,
    largest,
    sizes,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCKS: tl.constexpr,
    SIGNS: tl.constexpr,
):
    """The largest magnitude of each block after the transform."""
    block, _, at, inside, _, place, whole = _places(sizes, ROWS, WIDTH, BLOCKS)
    v = _turned(tl.load(x + at, inside, 0.0), whole, place, False, SIGNS, WIDTH, BLOCKS)
    tl.store(largest + block, tl.max(tl.abs(v), 1), block < sizes[0])


@triton.jit(do_not_specialize=["span", "samples", "low", "high"])
def rounded(
    x,
    y,
    levels,
    sizes,
    span,
    samples,
    low: tl.uint32,
    high: tl.uint32,
    ratio,
    widen,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCKS: tl.constexpr,
    SIGNS: tl.constexpr,
    MICRO: tl.constexpr,
    FOUR_OVER_SIX: tl.constexpr,
    STOCHASTIC: tl.constexpr,
):
    """``levels`` (3, samples): the second-level scale, its inverse and its sixth; NaN makes all of a sample NaN."""
    block, outer, at, inside, number, place, whole = _places(sizes, ROWS, WIDTH, BLOCKS)
    v = tl.load(x + at, inside, 0.0)
    if SIGNS >= 0:
        v = _turned(v, whole, place, False, SIGNS, WIDTH, BLOCKS)
    largest = tl.max(tl.abs(v), 1)
    sample = outer // span
    level = tl.load(levels + sample, block < sizes[0], 1.0)
    if MICRO:
        exponent = tl.maximum(_bits(largest * ratio) & _EXPONENT, 2 << 23) - (2 << 23)  # biased; 0 stands for 2^-127
        scale = _float(tl.where(exponent > 0, exponent, 0x00400000))
        multiplier = tl.div_rn(tl.full(scale.shape, 1.0, tl.float32), scale)
    else:
        inverse = tl.load(levels + samples + sample, block < sizes[0], 1.0)
        sixth = tl.load(levels + 2 * samples + sample, block < sizes[0], 1.0)
        wanted = largest * ratio * sixth * widen
        scale = _nvfp4_scale(wanted)
        if FOUR_OVER_SIX:
            four = _nvfp4_scale(largest * ratio * sixth * (widen * 1.5))
            error_six = _squared(v, scale, inverse, level, ROWS * WIDTH, BLOCKS)
            error_four = _squared(v, four, inverse, level, ROWS * WIDTH, BLOCKS)
            scale = tl.where(error_four < error_six, four, scale)
        multiplier = _nvfp4_multiplier(scale, inverse)
    units = _units(v, multiplier)
    code = _drawn(units, _chance(number, place, low, high, WIDTH)) if STOCHASTIC else _nearest(units)
    value = code * scale[:, None] if MICRO else _decoded(code, scale, level)
    if SIGNS >= 0:
        value = _turned(value, whole, place, True, SIGNS, WIDTH, BLOCKS)
    value = tl.where((level == level)[:, None], value, level[:, None])
    tl.store(y + at, value, inside)

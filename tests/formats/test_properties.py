"""What every format of the catalogue must do, whatever its grid: round trips, order, neighbours, sizes, errors."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from netweight import formats
from netweight.errors import FormatError, RangeError, UnknownName
from oracles import bits, packing
from oracles import number_formats as nf
from oracles.reading import with_codes

NAMES = [f.name for f in formats.catalogue()]
FAMILIES = ["int2-g16", "int3-g16", "int4-sym-g16", "int8-channel", "e4m3-g16", "mxfp4", "nvfp4", "nf4"]


def _shape(format) -> tuple[int, int]:
    """A legal matrix for the format: whole groups, whole words, whole tiles."""
    columns = 2 * format.group if format.group > 128 else 256
    return 32, columns


def _weight(format, seed: int = 0) -> torch.Tensor:
    rows, columns = _shape(format)
    rng = np.random.default_rng(seed)
    w = rng.standard_t(4, (rows, columns)) * 0.05
    return torch.from_numpy(w.astype(np.float32))


def _grid(q) -> torch.Tensor:
    """(codes, O, I): what each element would be under each code; NaN and infinities as NaN."""
    count = 3 if q.format.name.startswith("ternary") else 2**q.format.bits
    listed = [with_codes(q, torch.full_like(q.codes, code)).decode(torch.float64) for code in range(count)]
    grid = torch.stack(listed)
    return torch.where(torch.isfinite(grid), grid, torch.nan)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_finds_its_row(name):
    assert formats.get(name).name == name


def test_the_catalogue_has_every_family_and_no_name_twice():
    assert len(set(NAMES)) == len(NAMES)
    for wanted in [
        "int2-g64",
        "int3-g64",
        "int3-g128",
        "int4-g128",
        "int4-sym-g128",
        "int8-channel",
        "int8-sym-channel",
    ]:
        assert wanted in NAMES
    for wanted in ["mxfp4", "mxfp6-e2m3", "mxfp6-e3m2", "mxfp8-e4m3", "mxfp8-e5m2", "nvfp4", "nvfp4-2d", "nf4"]:
        assert wanted in NAMES
    for start in ["e2m1-", "e4m3-", "e5m2-", "ternary-g"]:
        assert any(name.startswith(start) for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_decoded_values_encode_to_themselves(name):
    format = formats.get(name)
    w = _weight(format)
    params = formats.fit(w, format)
    once = formats.encode(w, params, format).decode(torch.float32)
    assert torch.equal(formats.encode(once, params, format).decode(torch.float32), once)


@pytest.mark.parametrize("name", NAMES)
def test_every_element_takes_the_nearest_value_of_its_group(name):
    format = formats.get(name)
    w = _weight(format, 1)
    q = formats.quantize(w, format)
    distance = (_grid(q) - w.double()).abs()
    best = distance.masked_fill(distance.isnan(), torch.inf).min(dim=0).values
    got = (q.decode(torch.float64) - w.double()).abs()
    # the division by the scale is rounded to float32: next to a tie either neighbour may win by that much
    assert (got - best <= 2**-21 * w.abs().max()).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_larger_weight_never_gets_a_smaller_value(name):
    format = formats.get(name)
    w = _weight(format, 2)
    params = formats.fit(w, format)
    low = formats.encode(w, params, format).decode(torch.float32)
    for step in (1e-6, 1e-3, 0.05):
        high = formats.encode(w + step, params, format).decode(torch.float32)
        assert (high >= low).all()


@pytest.mark.parametrize("name", NAMES)
def test_unpacking_gives_back_what_was_packed(name):
    format = formats.get(name)
    w = _weight(format, 3)
    q = formats.quantize(w, format)
    back = formats.unpack(formats.pack(q), format, _shape(format))
    assert torch.equal(back.codes, q.codes)
    assert torch.equal(back.scale.float(), q.scale.float())
    assert (back.zero is None) == (q.zero is None)
    if q.zero is not None and back.zero is not None:
        assert torch.equal(back.zero.float(), q.zero.float())
    assert torch.equal(back.decode(torch.float32), q.decode(torch.float32))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rows", [32, 48])
def test_size_is_the_bytes_of_the_packed_arrays(name, rows):
    format = formats.get(name)
    shape = (rows, _shape(format)[1])
    packed = formats.pack(formats.quantize(torch.randn(shape, generator=torch.Generator().manual_seed(0)), format))
    assert format.nbytes(shape) == sum(a.numel() * a.element_size() for a in packed.values())


@pytest.mark.parametrize(
    "name, want",
    [
        ("int4-g128", 4 + 20 / 128),
        ("int3-g64", 3 + 19 / 64),
        ("int2-g64", 2 + 18 / 64),
        ("int4-sym-g128", 4 + 16 / 128),
        ("int8-sym-channel", 8 + 16 / 256),
        ("int8-channel", 8 + 24 / 256),
        ("int4-g64-fz", 4 + 32 / 64),
        ("e4m3-channel", 8 + 32 / 256),
        ("mxfp4", 4.25),
        ("mxfp6-e2m3", 6.25),
        ("mxfp8-e4m3", 8.25),
        ("nvfp4", 4.5 + 32 / (32 * 256)),
        ("nf4", 4.25),
        ("int4-g32-s8", 4 + 12 / 32 + 16 / 256),
        ("int2-sym-g16-s6", 2 + 6 / 16 + 16 / 256),
    ],
)
def test_bits_per_weight_count_scales_and_zeros(name, want):
    assert formats.get(name).bits_per_weight((32, 256)) == pytest.approx(want, abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_bits_per_weight_are_eight_times_the_bytes_where_nothing_is_padded(name):
    format = formats.get(name)
    shape = _shape(format)
    per_tensor_padding = 4 if name.endswith("tensor") else 0  # one lone zero point fills a word
    gap = format.nbytes(shape) - format.bits_per_weight(shape) * math.prod(shape) / 8
    assert 0 <= gap <= per_tensor_padding if not name.startswith("ternary") else abs(gap) <= math.prod(shape) / 8


def test_ternary_packs_five_codes_to_a_byte_row_by_row():
    format = formats.get("ternary-g64")
    assert format.nbytes((3, 128)) == 3 * 26 + 3 * 2 * 2  # ceil(128 / 5) bytes and two fp16 scales a row


@pytest.mark.parametrize("width", range(2, 9))
@pytest.mark.parametrize("columns", [32, 96, 80])
def test_integer_codes_are_laid_out_as_compressed_tensors_reads_them(width, columns):
    helpers = pytest.importorskip("compressed_tensors.compressors.pack_quantized.helpers")
    format = formats.get(f"int{width}-g16")
    w = torch.randn(5, columns, generator=torch.Generator().manual_seed(width))
    q = formats.quantize(w, format)
    packed = formats.pack(q)
    half = 2 ** (width - 1)
    theirs = helpers.pack_to_int32((q.codes.int() - half).to(torch.int8), width)
    assert torch.equal(packed["codes"], theirs.view(torch.uint8))
    assert np.array_equal(theirs.numpy().view(np.uint32), packing.words(q.codes.numpy(), width))
    assert q.zero is not None
    zeros = helpers.pack_to_int32((q.zero.int() - half).to(torch.int8), width, packed_dim=0)  # (words, G)
    assert np.array_equal(packed["zero"].numpy(), zeros.numpy().T.copy().view(np.uint8).T)


def test_nvfp4_puts_the_even_element_in_the_low_nibble():
    w = torch.zeros(1, 16)
    w[0, 0], w[0, 1] = 6.0, -3.0  # codes 7 and 13
    packed = formats.pack(formats.quantize(w, formats.get("nvfp4")))
    codes = [a for a in packed.values() if a.dtype == torch.uint8 and a.numel() == 8]
    assert codes and int(codes[0].flatten()[0]) == 7 | (13 << 4)


@given(data=st.data(), name=st.sampled_from(FAMILIES), seed=st.integers(0, 2**16), rows=st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_any_codes_survive_packing(data, name, seed, rows):
    format = formats.get(name)
    columns = 64 * data.draw(st.integers(1, 3))
    generator = torch.Generator().manual_seed(seed)
    q = formats.quantize(torch.randn(rows, columns, generator=generator), format)
    codes = torch.randint(0, 2**format.bits, (rows, columns), generator=generator, dtype=torch.uint8)
    q = with_codes(q, codes)
    assert torch.equal(formats.unpack(formats.pack(q), format, (rows, columns)).codes, codes)


@given(
    name=st.sampled_from([n for n in FAMILIES if n != "nf4"]),
    exponent=st.integers(-8, 8),
    elements=st.lists(st.integers(-64, 64), min_size=64, max_size=64),
)
@settings(max_examples=100, deadline=None)
def test_any_small_weight_rounds_as_the_oracle_does(name, exponent, elements):
    w = np.array(elements, dtype=np.float32).reshape(2, 32) * np.float32(2.0**exponent / 8)
    got = formats.quantize(torch.from_numpy(w), formats.get(name)).decode(torch.float32)
    np.testing.assert_array_equal(got.numpy(), nf.quantized(name, w))


@given(name=st.sampled_from(FAMILIES), power=st.integers(-3, 3), seed=st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_a_power_of_two_passes_through(name, power, seed):
    format = formats.get(name)
    w = torch.randn(2, 64, generator=torch.Generator().manual_seed(seed))
    scaled = formats.quantize(w * 2.0**power, format).decode(torch.float32)
    assert torch.equal(scaled, formats.quantize(w, format).decode(torch.float32) * 2.0**power)


@pytest.mark.parametrize("name", NAMES)
def test_a_zero_weight_decodes_to_zero(name):
    format = formats.get(name)
    assert (formats.quantize(torch.zeros(_shape(format)), format).decode(torch.float32) == 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_weights_too_small_for_the_scale_decode_to_finite_numbers(name):
    format = formats.get(name)
    tiny = _weight(format, 4) * 1e-38
    got = formats.quantize(tiny, format).decode(torch.float32)
    assert torch.isfinite(got).all()
    assert got.abs().max() <= 1e-35


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", FAMILIES)
def test_nan_and_infinity_are_refused(name, bad):
    format = formats.get(name)
    w = torch.ones(4, 64)
    w[2, 5] = bad
    with pytest.raises(FormatError):
        formats.fit(w, format)
    with pytest.raises(FormatError):
        formats.encode(w, formats.fit(torch.ones(4, 64), format), format)


@pytest.mark.parametrize("name", ["int4-g64", "int2-sym-g64", "int4-g64-fz", "nf4", "ternary-g64"])
def test_a_scale_beyond_fp16_is_refused_with_the_limit(name):
    with pytest.raises(RangeError, match="65504"):
        formats.quantize(torch.full((2, 64), 1e7), formats.get(name))


@pytest.mark.parametrize(
    "name, columns", [("int4-g64", 100), ("e4m3-g32", 40), ("mxfp4", 48), ("nvfp4", 24), ("nf4", 65)]
)
def test_a_group_that_does_not_divide_the_row_is_refused(name, columns):
    with pytest.raises(FormatError, match=str(columns)):
        formats.quantize(torch.ones(2, columns), formats.get(name))


@pytest.mark.parametrize("name", ["int4-g64-ragged", "int3-sym-g32-ragged", "e4m3-g32-ragged"])
@pytest.mark.parametrize("columns", [100, 65, 33, 5, 64])
def test_a_ragged_tail_has_its_own_scale_and_nothing_is_padded(name, columns):
    format = formats.get(name)
    w = torch.randn(3, columns, generator=torch.Generator().manual_seed(columns))
    q = formats.quantize(w, format)
    assert q.codes.shape == (3, columns)
    assert q.scale.shape == (3, -(-columns // format.group))
    np.testing.assert_array_equal(q.decode(torch.float32).numpy(), nf.quantized(name, w.numpy()))
    arrays = formats.pack(q)
    assert format.nbytes((3, columns)) == sum(a.numel() * a.element_size() for a in arrays.values())
    assert torch.equal(formats.unpack(arrays, format, (3, columns)).codes, q.codes)


@pytest.mark.parametrize(
    "name, near", [("int3-g46", None), ("int4_g64", "int4-g64"), ("nvfp5", "nvfp4"), ("mxpf4", "mxfp4")]
)
def test_an_unknown_name_offers_the_nearest(name, near):
    if near is None:
        assert formats.get(name).group == 46  # any group is a format, listed in the catalogue or not
        return
    with pytest.raises(UnknownName, match=near):
        formats.get(name)


@pytest.mark.parametrize("name", ["int9-g64", "int1-g64", "int4-g0", "int4", "e4m3-g-1", "", "int4-g64-sym"])
def test_a_name_outside_the_grammar_is_refused(name):
    with pytest.raises(UnknownName):
        formats.get(name)


def test_a_qtensor_cannot_be_changed():
    q = formats.quantize(torch.ones(2, 64), formats.get("int4-g64"))
    with pytest.raises(dataclasses.FrozenInstanceError):
        q.codes_OI = torch.zeros(2, 64)  # pyright: ignore


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_decoding_to_another_dtype_rounds_the_float32_value(dtype):
    q = formats.quantize(_weight(formats.get("int4-g64"), 5), formats.get("int4-g64"))
    assert torch.equal(q.decode(dtype), q.decode(torch.float32).to(dtype))


@pytest.mark.parametrize("name", NAMES)
def test_quantizing_leaves_its_argument_alone(name):
    format = formats.get(name)
    w = _weight(format, 6)
    before = w.clone()
    formats.fake_quantize(w, format)
    formats.quantize(w, format)
    assert torch.equal(w, before)


@pytest.mark.parametrize("name", NAMES)
def test_fake_quantize_gives_the_decoded_value_and_passes_the_gradient_through(name):
    format = formats.get(name)
    x = _weight(format, 7).requires_grad_()
    y = formats.fake_quantize(x, format)
    assert torch.equal(y.detach(), formats.quantize(x.detach(), format).decode(torch.float32))
    g = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    y.backward(g)
    assert x.grad is not None
    assert torch.equal(x.grad, g)


def test_a_strided_weight_quantizes_like_its_copy():
    w = torch.from_numpy(bits.weights("int4-g64", 64 * bits.COLUMNS, 8))
    format = formats.get("int4-g64")
    view = w.T[:, :64]
    assert torch.equal(formats.quantize(view, format).codes, formats.quantize(view.contiguous(), format).codes)


@pytest.mark.parametrize("name", [f.name for f in formats.catalogue() if f.scale != "e8m0"])
def test_a_scale_that_can_be_stored_is_cast_to_itself_and_any_other_to_one_near_it(name):
    format = formats.get(name)
    weight = _weight(format, 3)
    shape = (weight.shape[0], weight.shape[1])
    params = formats.fit(weight, format)
    assert torch.equal(formats.cast_scale(params.scale_RG, params, format), params.scale_RG)
    wanted = params.scale_RG * 0.987
    moved = formats.cast_scale(wanted, params, format)
    q = formats.QTensor(torch.zeros(shape, dtype=torch.uint8), dataclasses.replace(params, scale_RG=moved), format)
    assert torch.equal(formats.unpack(formats.pack(q), format, shape).scale, moved)
    near = (
        0.5 / 2 ** {"fp16": 10, "fp32": 23, "e4m3": 3, "u6": 4, "u8": 6}[format.scale]
    )  # of scales not far below the row's
    large = wanted > 0.3 * wanted.amax(1, keepdim=True)
    assert ((moved - wanted).abs() <= 1.01 * near * wanted)[large].all()
    assert (formats.cast_scale(torch.zeros_like(wanted), params, format) > 0).all()

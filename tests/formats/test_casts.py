"""The small floats, code by code, against ml_dtypes, gfloat and a search in the list of their values."""

from __future__ import annotations

import gfloat
import gfloat.formats
import numpy as np
import pytest
import torch

from netweight import formats
from netweight.errors import FormatError, NetweightError, RangeError
from oracles import bits, minifloats

KINDS = ("e2m1", "e2m3", "e3m2", "e4m3", "e5m2", "e8m0")
SIGNED = KINDS[:-1]


@pytest.mark.parametrize("kind", KINDS)
def test_every_code_has_the_value_ml_dtypes_gives_it(kind):
    assert bits.code_differences(kind) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_every_code_has_the_value_gfloat_gives_it(kind):
    info = getattr(gfloat.formats, f"format_info_ocp_{kind}")
    want = np.array([gfloat.decode_float(info, code).fval for code in range(minifloats.code_count(kind))])
    got = formats.uncast(torch.arange(len(want), dtype=torch.uint8), kind).double().numpy()
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("kind", KINDS)
def test_random_bit_patterns_and_all_midpoints_cast_as_in_ml_dtypes(kind):
    assert bits.cast_differences(kind, 20_000, seed=0) == 0


@pytest.mark.parametrize("kind", SIGNED)
def test_a_saturating_cast_takes_the_nearest_listed_value(kind):
    assert bits.saturating_differences(kind, 20_000, seed=1) == 0


@pytest.mark.parametrize("kind", SIGNED)
def test_gfloat_rounds_the_same_way(kind):
    info = getattr(gfloat.formats, f"format_info_ocp_{kind}")
    x = bits.cast_inputs(kind, 400, seed=2)
    want = [gfloat.encode_float(info, gfloat.round_float(info, float(v), sat=True)) for v in x]
    got = formats.cast(torch.from_numpy(x), kind, overflow="saturate").numpy()
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("kind", KINDS)
def test_a_value_of_the_format_keeps_its_code(kind):
    codes = torch.arange(minifloats.code_count(kind), dtype=torch.uint8)
    values = formats.uncast(codes, kind)
    finite = torch.isfinite(values)
    assert torch.equal(formats.cast(values[finite], kind), codes[finite])


@pytest.mark.parametrize(
    "x, want",
    [(0.25, 0), (0.75, 1), (1.25, 1), (1.75, 2), (2.5, 2), (3.5, 4), (5.0, 4), (-0.75, -1), (-5.0, -4), (6.1, 6)],
)
def test_an_e2m1_tie_takes_the_even_code(x, want):
    assert formats.uncast(formats.cast(torch.tensor([x]), "e2m1"), "e2m1").item() == want


def test_an_e8m0_tie_takes_the_even_code():
    got = formats.cast(torch.tensor([1.5, 3.0, 6.0, 0.75]), "e8m0")
    assert got.tolist() == [128, 128, 130, 126]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", SIGNED)
def test_the_dtype_a_number_comes_in_does_not_change_its_code(kind, dtype):
    x = torch.from_numpy(bits.cast_inputs(kind, 2000, seed=3))
    x = x[x.abs() < 60_000].to(dtype)
    np.testing.assert_array_equal(formats.cast(x, kind).numpy(), minifloats.nearest(kind, x.double().numpy()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", SIGNED)
def test_zero_and_what_underflows_to_it_have_code_zero(kind, dtype):
    x = torch.tensor([0.0, 1e-30, 2.0**-149, 1e-6], dtype=dtype)
    assert formats.cast(x, kind).tolist() == [0, 0, 0, 0]
    assert (formats.uncast(formats.cast(-x, kind), kind) == 0).all()


def test_a_float64_is_not_rounded_twice():
    above_tie = torch.tensor([2.5 + 2.0**-40], dtype=torch.float64)  # in float32 this is the tie 2.5, which goes to 2
    assert formats.uncast(formats.cast(above_tie, "e2m1"), "e2m1").item() == 3


@pytest.mark.parametrize("kind, x", [("e2m1", 100.0), ("e4m3", 1e4), ("e5m2", -1e6), ("e2m3", 9.0), ("e3m2", -40.0)])
def test_overflow_raises_when_asked_to_and_names_value_and_limit(kind, x):
    with pytest.raises(RangeError) as error:
        formats.cast(torch.tensor([0.5, x]), kind, overflow="raise")
    assert f"{minifloats.maximum(kind):g}" in str(error.value)


@pytest.mark.parametrize("kind", SIGNED)
def test_the_largest_value_does_not_overflow(kind):
    x = torch.tensor([minifloats.maximum(kind)])
    assert formats.uncast(formats.cast(x, kind, overflow="raise"), kind).item() == x.item()


@pytest.mark.parametrize("x, want", [(464.0, 0x7E), (465.0, 0x7F), (-1e30, 0xFF), (float("inf"), 0x7F)])
def test_e4m3_overflows_to_nan_by_the_ieee_rule(x, want):
    assert formats.cast(torch.tensor([x]), "e4m3", overflow="nonfinite").item() == want


@pytest.mark.parametrize("x, want", [(61439.0, 0x7B), (61440.0, 0x7C), (-1e30, 0xFC), (float("-inf"), 0xFC)])
def test_e5m2_overflows_to_infinity_by_the_ieee_rule(x, want):
    assert formats.cast(torch.tensor([x]), "e5m2", overflow="nonfinite").item() == want


@pytest.mark.parametrize("kind", ["e4m3", "e5m2"])
def test_nan_stays_nan_where_the_format_has_one(kind):
    code = formats.cast(torch.tensor([float("nan")]), kind, overflow="nonfinite")
    assert torch.isnan(formats.uncast(code, kind)).all()


@pytest.mark.parametrize("kind", ["e2m1", "e2m3", "e3m2"])
def test_nan_is_refused_where_the_format_has_none(kind):
    with pytest.raises(FormatError):
        formats.cast(torch.tensor([float("nan")]), kind)


def test_an_unknown_kind_is_an_error_of_ours():
    with pytest.raises(NetweightError):
        formats.cast(torch.tensor([1.0]), "e4m4")


def test_a_cast_keeps_the_shape():
    assert formats.cast(torch.zeros(2, 3, 4), "e4m3").shape == (2, 3, 4)
    assert formats.cast(torch.zeros(0), "e4m3").shape == (0,)

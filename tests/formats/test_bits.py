"""Every format of the catalogue against the NumPy oracle, bit for bit, and against outside authorities.

``benchmarks/formats_bits.py`` runs the same functions over 10^6 values each.
"""

from __future__ import annotations

import gfloat
import gfloat.formats
import ml_dtypes
import numpy as np
import pytest
import torch

from netweight import formats
from oracles import bits
from oracles import number_formats as nf
from oracles.reading import read

NAMES = [f.name for f in formats.catalogue()]
EXTRA = ["int4-g16", "int3-g256", "int8-sym-tensor", "int5-tensor", "int6-sym-g128", "int4-g64-fz", "int2-g32-fz"]
ORACLE = sorted({*NAMES, *EXTRA} - {"nf4"})
MX = {
    "mxfp4": gfloat.formats.format_info_mxfp4_e2m1,
    "mxfp6-e2m3": gfloat.formats.format_info_mxfp6_e2m3,
    "mxfp6-e3m2": gfloat.formats.format_info_mxfp6_e3m2,
    "mxfp8-e4m3": gfloat.formats.format_info_mxfp8_e4m3,
    "mxfp8-e5m2": gfloat.formats.format_info_mxfp8_e5m2,
}


@pytest.mark.parametrize("name", ORACLE)
def test_scales_zeros_codes_and_values_are_those_of_the_oracle(name):
    rows = 16 * 16 if name.startswith("nvfp4") else 32  # sixteen tensors where a tensor has a scale
    found = bits.format_differences(name, rows * bits.COLUMNS, seed=4)
    assert found.pop("elements") == rows * bits.COLUMNS
    assert set(found.values()) == {0}, found


@pytest.mark.parametrize("name", ORACLE)
def test_every_code_decodes_to_the_value_of_the_oracle(name):
    assert bits.decode_differences(name, seed=5) == 0


@pytest.mark.parametrize("name", [n for n in ORACLE if nf.parse(n).group > 0 and nf.parse(n).kind in ("int", "float")])
def test_a_ragged_row_rounds_each_of_its_groups_by_itself(name):
    group = nf.parse(name).group
    name = name.removesuffix("-ragged") + "-ragged"
    w = bits.weights(name, 16 * bits.COLUMNS, seed=6)[:, : group + 3 if group < bits.COLUMNS else 200]
    got = read(formats.quantize(torch.from_numpy(w), formats.get(name)))
    np.testing.assert_array_equal(got.values, nf.quantized(name, w))


@pytest.mark.parametrize("name", MX)
def test_mx_blocks_are_those_of_gfloat(name):
    w = bits.weights(name, 16 * bits.COLUMNS, seed=7)[:, :64]
    blocks = [gfloat.quantize_block(MX[name], b, gfloat.compute_scale_amax) for b in w.astype(float).reshape(-1, 32)]
    got = read(formats.quantize(torch.from_numpy(w), formats.get(name)))
    np.testing.assert_array_equal(got.values, np.stack(blocks).reshape(w.shape))


def test_nvfp4_is_its_arithmetic_with_the_casts_of_ml_dtypes():
    f32 = np.float32
    w = bits.weights("nvfp4", 64 * bits.COLUMNS, seed=8)
    blocks = w.reshape(len(w), -1, 16)
    encode = f32(2688) / np.abs(w).max()
    wanted = np.minimum(np.abs(blocks).max(2) * (encode * (f32(1) / f32(6))), f32(448))
    scale = wanted.astype(ml_dtypes.float8_e4m3fn).astype(f32)
    with np.errstate(divide="ignore"):
        multiplier = np.minimum(f32(1) / (scale * (f32(1) / encode)), np.finfo(f32).max)
    codes = np.clip(blocks * multiplier[..., None], -6, 6).astype(ml_dtypes.float4_e2m1fn)
    q = read(formats.quantize(torch.from_numpy(w), formats.get("nvfp4")))
    np.testing.assert_array_equal(q.codes, codes.view(np.uint8).reshape(w.shape))
    np.testing.assert_array_equal(q.scale, scale)
    np.testing.assert_array_equal(q.values, (codes.astype(f32) * scale[..., None] / encode).reshape(w.shape))


def test_nvfp4_reproduces_the_largest_weight_and_gives_a_zero_block_scale_zero():
    w = torch.zeros(2, 32)
    w[0, 3], w[1, 20] = -7.3, 0.1
    q = formats.quantize(w, formats.get("nvfp4"))
    r = read(q)
    assert r.scale.tolist()[0] == [448.0, 0.0]
    assert r.values[0, 3] == pytest.approx(-7.3, rel=2**-23)  # 6 * 448 / (2688 / 7.3): one rounding each in float32
    assert (r.values[0, 16:] == 0).all()


def test_square_blocks_commute_with_transposition_and_row_blocks_do_not():
    w = torch.from_numpy(bits.weights("nvfp4", 64 * bits.COLUMNS, seed=9))
    square, rows = formats.get("nvfp4-2d"), formats.get("nvfp4")
    there = formats.quantize(w, square).decode(torch.float32)
    back = formats.quantize(w.T.contiguous(), square).decode(torch.float32).T
    assert torch.equal(there, back)
    flat = formats.quantize(w.T.contiguous(), rows).decode(torch.float32).T
    assert not torch.equal(formats.quantize(w, rows).decode(torch.float32), flat)


def test_an_mx_maximum_between_six_and_eight_saturates():
    w = torch.zeros(1, 32)
    w[0, :2] = torch.tensor([7.9, -1.0])
    got = formats.quantize(w, formats.get("mxfp4")).decode(torch.float32)
    assert got[0, :2].tolist() == [6.0, -1.0]


def test_nf4_takes_the_nearest_of_the_sixteen_published_levels():
    w = bits.weights("int4-g64", 64 * bits.COLUMNS, seed=10)
    q = read(formats.quantize(torch.from_numpy(w), formats.get("nf4")))
    amax = np.abs(w.reshape(len(w), -1, 64)).max(2).astype(np.float16).astype(np.float64)
    np.testing.assert_array_equal(q.scale.reshape(amax.shape), amax)
    scale = np.repeat(amax, 64, axis=1)
    alive = scale > 0
    level = np.divide(q.values, scale, out=np.zeros_like(scale), where=alive)
    # 5e-6: the published digits; 2^-23: one float32 product
    assert np.abs(level - nf.NF4[q.codes])[alive].max() < 5e-6 + 2**-23
    x = np.divide(w, scale, out=np.zeros_like(scale), where=alive)
    best = np.abs(x[..., None] - nf.NF4).min(-1)
    assert (np.abs(x - nf.NF4[q.codes]) - best)[alive].max() < 2e-5  # a level may be off by 5e-6 on both sides
    assert set(np.unique(q.codes)) == set(range(16))


@pytest.mark.parametrize("name", ["int4-g64", "int3-g32", "int8-channel", "int4-sym-g64", "nf4", "ternary-g64"])
def test_scales_are_fp16_numbers(name):
    w = torch.from_numpy(bits.weights("int4-g64", 16 * bits.COLUMNS, seed=11))
    scale = read(formats.quantize(w, formats.get(name))).scale
    np.testing.assert_array_equal(scale, scale.astype(np.float16).astype(np.float64))


@pytest.mark.parametrize("name", ["int2-g64", "int4-g64", "int8-g64"])
def test_zero_is_always_represented_exactly_by_packed_zeros(name):
    w = torch.from_numpy(bits.weights(name, 16 * bits.COLUMNS, seed=12))
    w[:, ::7] = 0
    assert (formats.quantize(w, formats.get(name)).decode(torch.float32)[:, ::7] == 0).all()


@pytest.mark.parametrize("ratio", [0.5, 0.85, 1.0])
@pytest.mark.parametrize("name", ["int3-g64", "int4-sym-g64", "int4-g64-fz", "e2m1-g64"])
def test_a_ratio_shrinks_the_range_before_the_scale_is_taken(name, ratio):
    w = bits.weights(name, 16 * bits.COLUMNS, seed=13)
    format = formats.get(name)
    params = formats.fit(torch.from_numpy(w), format, ratio=torch.full((w.shape[0], w.shape[1] // 64), ratio))
    fitted = nf.fit(name, w, ratio)
    got = read(formats.encode(torch.from_numpy(w), params, format))
    np.testing.assert_array_equal(got.scale, fitted.compact(fitted.scale_OI))
    np.testing.assert_array_equal(got.values, nf.values(fitted, nf.codes(fitted, w)))

"""The clip search against trying every ratio on every group."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from compress.problems import decided, plugin, problem, seeds, solve
from netweight import formats
from oracles import mse_clip as oracle
from oracles import number_formats as nf

FORMATS = ("int3-g16", "int2-sym-g16", "int4-channel", "int4-tensor", "int4-g16-fz", "e2m1-g16", "e4m3-channel")


@pytest.mark.parametrize("format_name", FORMATS)
@pytest.mark.parametrize("kind", ["plain", "convolution", "one row"])
def test_each_group_takes_the_first_ratio_with_the_least_squared_error(kind, format_name):
    method = plugin("mse_clip")
    tried = method.ratios(method.Settings(), formats.get(format_name))
    compared = 0
    for seed in seeds(kind):
        p = problem(kind, seed)
        losses = oracle.losses(p.weight_OI, tried, format_name)
        sure = decided(losses)
        compared += int(sure.sum())
        ratio = np.array(tried)[losses.argmin(0)]
        want = nf.fit(format_name, p.weight_OI, ratio)
        got = solve("mse_clip", p, format_name).scale.double().numpy()
        np.testing.assert_array_equal(got[sure], want.compact(want.scale_OI)[sure])
    assert compared > 0


@pytest.mark.parametrize("format_name", [f.name for f in formats.catalogue() if f.group <= 64 and f.rows == 1])
def test_the_search_never_loses_to_min_max(format_name):
    p = problem("plain", 4, inputs=128)
    got = solve("mse_clip", p, format_name).decode(torch.float64).numpy()
    plain = formats.quantize(p.weight, formats.get(format_name)).decode(torch.float64).numpy()
    assert ((got - p.weight_OI) ** 2).sum() <= ((plain - p.weight_OI) ** 2).sum() * (1 + 1e-6)


def test_two_bits_gain_from_clipping():
    p = problem("plain", 5)
    got = solve("mse_clip", p, "int2-g16").decode(torch.float64).numpy()
    plain = nf.quantized("int2-g16", p.weight_OI)
    assert ((got - p.weight_OI) ** 2).sum() < 0.97 * ((plain - p.weight_OI) ** 2).sum()


def test_the_full_range_is_tried_first():
    method = plugin("mse_clip")
    for format in formats.catalogue():
        tried = method.ratios(method.Settings(), format)
        assert tried[0] == 1
        assert all(ratio > 0 for ratio in tried)
        assert len(set(tried)) == len(tried)

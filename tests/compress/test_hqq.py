"""HQQ against the half-quadratic iteration in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from compress.problems import plugin, problem, solve
from netweight import formats
from netweight.errors import CompressError
from oracles import hqq as oracle
from oracles import number_formats as nf

FORMATS = ("int4-g16", "int3-g16", "int2-g16", "int4-g16-fz", "int3-g16-fz", "int2-g16-fz")


def _error(p, q) -> float:
    return float(np.abs(q.decode(torch.float64).numpy() - p.weight_OI).mean())


@pytest.mark.parametrize("format_name", FORMATS)
@pytest.mark.parametrize("kind", ["plain", "convolution", "one row"])
def test_zeros_and_values_are_those_of_the_iteration(kind, format_name):
    compared = 0
    for seed in range(6):
        p = problem(kind, seed)
        want = oracle.solve(p.weight_OI, format_name)
        if not want.decided:
            continue
        compared += 1
        got = solve("hqq", p, format_name)
        np.testing.assert_array_equal(got.zero.double().numpy(), want.zero_OG)
        np.testing.assert_array_equal(got.codes.numpy(), want.codes_OI)
    assert compared >= 3


@pytest.mark.parametrize("format_name", FORMATS)
def test_the_scale_stays_that_of_min_max(format_name):
    p = problem("plain", 3)
    fitted = nf.fit(format_name, p.weight_OI)
    got = solve("hqq", p, format_name)
    np.testing.assert_array_equal(got.scale.double().numpy(), fitted.compact(fitted.scale_OI))


@pytest.mark.parametrize("format_name", ["int2-g64-fz", "int3-g64-fz"])
def test_a_float_zero_lowers_the_mean_error_of_heavy_tails(format_name):
    rng = np.random.default_rng(4)
    p = problem("plain", 4, inputs=128, outputs=16)
    p = type(p)(rng.standard_t(3, p.weight_OI.shape).astype(np.float32), p.x_TI)
    plain = formats.quantize(p.weight, formats.get(format_name))
    assert _error(p, solve("hqq", p, format_name)) < _error(p, plain)


@pytest.mark.parametrize("format_name", FORMATS)
def test_the_result_is_never_worse_than_where_it_started(format_name):
    for seed in range(5):
        p = problem("plain", 10 + seed)
        plain = formats.quantize(p.weight, formats.get(format_name))
        # 1e-6: the method sums in float32, this test in float64
        assert _error(p, solve("hqq", p, format_name)) <= _error(p, plain) * (1 + 1e-6)


@pytest.mark.parametrize("format_name", ["int4-sym-g16", "nvfp4", "e4m3-channel"])
def test_a_format_without_a_zero_point_is_refused(format_name):
    with pytest.raises(CompressError, match="zero"):
        solve("hqq", problem("plain", 5), format_name)


def test_shrinkage_sets_small_errors_to_zero_and_keeps_large_ones():
    x = np.array([0.0, 1e-3, -1e-3, 5.0, -5.0])
    got = oracle.shrink(x, 10.0)
    np.testing.assert_array_equal(got[:3], 0)
    np.testing.assert_allclose(got[3:], [5 - 0.1 * 5**-0.3, -5 + 0.1 * 5**-0.3])


def test_the_settings_are_the_published_ones():
    s = plugin("hqq").Settings()
    assert (s.norm, s.beta, s.growth, s.rounds) == (oracle.P, oracle.BETA, oracle.KAPPA, oracle.ITERATIONS)


@pytest.mark.parametrize("format_name", ["int2-g16", "int4-g16", "int2-g16-fz"])
def test_a_layer_whose_zeros_all_stay_says_that_it_is_round_to_nearest(format_name):
    kept = 0
    for seed in range(8):
        p = problem("plain", 20 + seed, inputs=16, outputs=2)
        plain = formats.quantize(p.weight, formats.get(format_name))
        found = plugin("hqq").solve(p.weight, None, formats.get(format_name), plugin("hqq").Settings())
        same = torch.equal(found.qtensor.codes, plain.codes) and torch.equal(found.qtensor.zero, plain.zero)
        kept += same
        assert bool(found.notes) == same
        if same:
            assert ("-fz has zeros in float16" in found.notes[0]) == (not format_name.endswith("-fz"))
    assert kept < 8 if format_name.endswith("-fz") else kept >= 6

"""AWQ against the search written out, alpha by alpha and ratio by ratio."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from compress.problems import KINDS, decided, plugin, problem, seeds, solve
from netweight import formats
from oracles import awq as oracle
from oracles import number_formats as nf

FORMATS = ("int3-g16", "int4-channel", "int2-sym-g16", "nvfp4", "e2m1-g16", "int4-g16-fz")


def _layers(kind: str, seed: int):
    """Two layers reading one input."""
    p, q = problem(kind, seed), problem(kind, seed + 50)
    return p, {"a": p.weight, "b": 3 * q.weight}


@pytest.mark.parametrize("format_name", FORMATS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_scale_is_that_of_the_exponent_with_the_least_output_error(kind, format_name):
    method, compared = plugin("awq"), 0
    for seed in seeds(kind):
        p, weights = _layers(kind, seed)
        got = method.rescale(weights, p.moments(), formats.get(format_name), method.Settings()).double().numpy()
        losses = oracle.losses([w.numpy() for w in weights.values()], p.hessian_II, p.mean_abs_I, format_name)
        want = oracle.scale(p.mean_abs_I, oracle.EXPONENTS[int(losses.argmin())])
        if not decided(losses):
            continue
        compared += 1
        np.testing.assert_allclose(got, want, rtol=1e-6)  # stored in float32
    assert compared, "every seed was a draw"


def test_the_scale_lifts_an_outlier_channel():
    p, weights = _layers("outlier channel", 3)
    method = plugin("awq")
    scale = method.rescale(weights, p.moments(), formats.get("int3-g16"), method.Settings())
    assert int(scale.argmax()) == 7
    assert scale[7] > 2


def test_scales_are_centred():
    p, weights = _layers("correlated", 4)
    method = plugin("awq")
    scale = method.rescale(weights, p.moments(), formats.get("int3-g16"), method.Settings()).double()
    assert float(scale.max() * scale.min()) == pytest.approx(1, rel=1e-6)


def test_inputs_of_equal_size_are_left_alone():
    p, weights = _layers("plain", 5)
    moments = p.moments()
    flat = type(moments)(moments.hessian_II, torch.ones(48), moments.max_abs_I, moments.n)
    method = plugin("awq")
    assert torch.equal(method.rescale(weights, flat, formats.get("int3-g16"), method.Settings()), torch.ones(48))


@pytest.mark.parametrize("format_name", ["int3-g16", "int2-sym-g16", "int4-channel", "e2m1-g16", "int4-g16-fz"])
@pytest.mark.parametrize("kind", KINDS)
def test_each_group_is_clipped_where_its_own_output_error_is_least(kind, format_name):
    compared = 0
    for seed in seeds(kind):
        p = problem(kind, seed)
        losses = oracle.clip_losses(p.weight_OI, p.hessian_II, format_name)
        ratio = np.array(oracle.RATIOS)[losses.argmin(0)]
        want = nf.fit(format_name, p.weight_OI, ratio)
        got = solve("awq", p, format_name)
        sure = decided(losses)
        compared += int(sure.sum())
        scale = want.compact(want.scale_OI)
        np.testing.assert_array_equal(got.scale.double().numpy()[sure], scale[sure])
        spread = np.repeat(
            sure, [len(range(*g.indices(p.weight_OI.shape[1]))) for g in _groups(p, format_name)], axis=1
        )
        codes = nf.codes(want, p.weight_OI)
        np.testing.assert_array_equal(got.codes.numpy()[spread], codes[spread])
    assert compared > 0


def _groups(p, format_name):
    return nf.column_groups(nf.parse(format_name), p.weight_OI.shape[1])


def test_clipping_never_makes_a_group_worse_on_its_own_terms():
    p = problem("outlier channel", 6)
    losses = oracle.clip_losses(p.weight_OI, p.hessian_II, "int2-g16")
    d = solve("awq", p, "int2-g16").decode(torch.float64).numpy() - p.weight_OI
    for g, columns in enumerate(_groups(p, "int2-g16")):
        own = np.einsum("oi,ij,oj->o", d[:, columns], p.hessian_II[columns, columns], d[:, columns])
        assert (own <= losses[0, :, g] * (1 + 1e-6)).all()
    assert (losses.argmin(0) > 0).any()  # at two bits some group does gain


def test_clipping_can_be_turned_off():
    p = problem("correlated", 7)
    got = solve("awq", p, "int2-g16", clip=1)
    assert torch.equal(got.codes, formats.quantize(p.weight, formats.get("int2-g16")).codes)

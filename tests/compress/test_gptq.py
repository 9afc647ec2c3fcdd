"""GPTQ against the explicit-inverse oracle in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from compress.problems import KINDS, Problem, decided, plugin, problem, seeds, solve
from netweight import formats
from netweight.compress import Moments
from netweight.errors import CompressError, SettingsError
from netweight.settings import parse
from oracles import gptq as oracle
from oracles import mse_clip as clip_oracle
from oracles import number_formats as nf

FORMATS = (
    "int3-g16",
    "int2-sym-g16",
    "int4-channel",
    "int4-g16-fz",
    "int8-tensor",
    "e2m1-g16",
    "e4m3-channel",
    "nvfp4",
)


def rounded(p, format_name, *, range="minmax", **settings):
    """GPTQ's codes; the oracle takes scales from min/max unless it is given ratios."""
    return solve("gptq", p, format_name, range=range, **settings)


def _check(p: Problem, want: oracle.Solved, got) -> None:
    """Equal codes up to a row's first near tie, and enough of the matrix compared to mean something."""
    mask = want.comparable()
    assert mask.mean() > 0.9, "this problem has too many ties to decide anything"
    np.testing.assert_array_equal(got.codes.numpy()[mask], want.codes_OI[mask])


@pytest.mark.parametrize("format_name", FORMATS)
@pytest.mark.parametrize("kind", KINDS)
def test_codes_are_those_of_the_explicit_inverse(kind, format_name):
    for seed in seeds(kind):
        p = problem(kind, seed)
        if format_name == "nvfp4" and kind == "one row":
            p = problem("plain", 100 + seed)
        _check(p, oracle.solve(p.weight_OI, p.hessian_II, format_name), rounded(p, format_name))


@pytest.mark.parametrize("kind", KINDS)
def test_natural_order_too(kind):
    for seed in seeds(kind):
        p = problem(kind, seed)
        want = oracle.solve(p.weight_OI, p.hessian_II, "int3-g16", order="natural")
        _check(p, want, rounded(p, "int3-g16", order="natural"))


@pytest.mark.parametrize("format_name", ["int3-g16", "int2-sym-g16", "int4-channel", "int4-g16-fz"])
@pytest.mark.parametrize("kind", KINDS)
def test_dynamic_groups_fit_their_scales_to_the_changed_weight(kind, format_name):
    for seed in seeds(kind):
        p = problem(kind, seed)
        want = oracle.solve(p.weight_OI, p.hessian_II, format_name, order="natural", groups="dynamic")
        _check(p, want, rounded(p, format_name, order="natural", groups="dynamic"))


def test_dynamic_groups_store_the_scales_they_used():
    p = problem("correlated", 5)
    want = oracle.solve(p.weight_OI, p.hessian_II, "int3-g16", order="natural", groups="dynamic")
    assert want.comparable().all()
    got = rounded(p, "int3-g16", order="natural", groups="dynamic")
    np.testing.assert_array_equal(got.decode(torch.float32).numpy(), want.values_OI)


@pytest.mark.parametrize("damping", [1e-4, 0.1, 0.9])
def test_damping_is_a_fraction_of_the_mean_diagonal(damping):
    p = problem("dead columns", 6)
    want = oracle.solve(p.weight_OI, p.hessian_II, "int3-g16", damping=damping)
    _check(p, want, rounded(p, "int3-g16", damping=damping))


def test_static_scales_may_come_from_the_least_squares_range():
    p = problem("correlated", 7)
    clip = plugin("mse_clip")
    tried = clip.ratios(plugin("gptq").SEARCH, formats.get("int3-g16"))
    losses = clip_oracle.losses(p.weight_OI, tried, "int3-g16")
    ratio = np.array(tried)[losses.argmin(0)]
    want = oracle.solve(p.weight_OI, p.hessian_II, "int3-g16", ratio_OG=ratio)
    _check(p, want, rounded(p, "int3-g16", range="mse"))


def test_static_scales_come_from_the_range_that_changes_the_groups_own_output_least():
    p = problem("correlated", 9)
    tried = plugin("mse_clip").ratios(plugin("gptq").SEARCH, formats.get("int3-g16"))
    weight, hessian = np.asarray(p.weight_OI, dtype=np.float64), np.asarray(p.hessian_II, dtype=np.float64)
    losses_KOG = np.stack([_group_losses(weight, hessian, nf.quantized("int3-g16", p.weight_OI, r)) for r in tried])
    assert decided(losses_KOG).all()
    want = oracle.solve(p.weight_OI, p.hessian_II, "int3-g16", ratio_OG=np.array(tried)[losses_KOG.argmin(0)])
    _check(p, want, rounded(p, "int3-g16", range="output"))


def _group_losses(weight_OI, hessian_II, values_OI, width=16):
    """d_g H_gg d_g^T of every row and group, one at a time."""
    outputs, inputs = weight_OI.shape
    losses = np.empty((outputs, inputs // width))
    for o in range(outputs):
        for g in range(inputs // width):
            here = slice(g * width, (g + 1) * width)
            change = values_OI[o, here] - weight_OI[o, here]
            losses[o, g] = change @ hessian_II[here, here] @ change
    return losses


@pytest.mark.parametrize("columns", [1, 5, 16, 48, 1000])
def test_the_width_of_the_lazy_update_changes_nothing(columns):
    p = problem("correlated", 8)
    want = oracle.solve(p.weight_OI, p.hessian_II, "int3-g16")
    assert want.comparable().all()
    np.testing.assert_array_equal(rounded(p, "int3-g16", columns=columns).codes.numpy(), want.codes_OI)


def test_statistics_in_float32_are_taken_as_they_are():
    p = problem("correlated", 9)
    hessian = p.moments(torch.float32).hessian_II.double().numpy()
    want = oracle.solve(p.weight_OI, hessian, "int3-g16")
    _check(p, want, rounded(p, "int3-g16", dtype=torch.float32))


def test_a_ragged_tail_is_a_group_of_its_own():
    p = problem("correlated", 10, inputs=43)
    want = oracle.solve(p.weight_OI, p.hessian_II, "int3-g16-ragged")
    _check(p, want, rounded(p, "int3-g16-ragged"))


def test_groups_of_a_grouped_convolution_have_their_own_hessians():
    parts = [problem("correlated", seed) for seed in (11, 12)]
    p = Problem(np.concatenate([q.weight_OI for q in parts]), parts[0].x_TI)
    hessian, mean, largest = (
        torch.from_numpy(np.stack([getattr(q, k) for q in parts])) for k in ("hessian_II", "mean_abs_I", "max_abs_I")
    )
    method = plugin("gptq")
    moments = Moments(hessian, mean, largest, len(p.x_TI))
    got = method.solve(p.weight, moments, formats.get("int3-g16"), method.Settings(range="minmax")).qtensor
    for k, q in enumerate(parts):
        want = oracle.solve(q.weight_OI, q.hessian_II, "int3-g16")
        assert want.comparable().all()
        np.testing.assert_array_equal(got.codes.numpy()[6 * k : 6 * k + 6], want.codes_OI)


def test_a_dead_column_keeps_its_weight_and_is_rounded_to_nearest():
    p = problem("dead columns", 13)
    got = rounded(p, "int3-g16").decode(torch.float32).numpy()
    plain = nf.quantized("int3-g16", p.weight_OI)
    for j in (0, 24, 47):
        np.testing.assert_array_equal(got[:, j], plain[:, j])
        assert (got[:, j] != 0).any()


def test_uncorrelated_inputs_of_equal_size_give_plain_rounding():
    """With H a multiple of the identity there is nothing to make up for."""
    p = problem("plain", 14)
    moments = Moments(3 * torch.eye(48, dtype=torch.float64), torch.ones(48), torch.ones(48), 100)
    method = plugin("gptq")
    got = method.solve(p.weight, moments, formats.get("int3-g16"), method.Settings(range="minmax")).qtensor
    assert torch.equal(got.codes, formats.quantize(p.weight, formats.get("int3-g16")).codes)


@pytest.mark.parametrize("kind", ["correlated", "rank deficient", "convolution"])
def test_the_output_error_is_well_below_plain_rounding(kind):
    for seed in seeds(kind):
        p = problem(kind, 20 + seed)
        got = rounded(p, "int3-g16").decode(torch.float64).numpy()
        plain = nf.quantized("int3-g16", p.weight_OI)
        assert oracle.loss(p.weight_OI, got, p.hessian_II) < 0.8 * oracle.loss(p.weight_OI, plain, p.hessian_II)


def test_a_hessian_that_is_not_positive_raises_the_damping_and_says_so():
    p = problem("correlated", 15)
    hessian = p.hessian_II.copy()
    values, vectors = np.linalg.eigh(hessian)
    values[0] = -0.05 * hessian.diagonal().mean()  # a damping of 1 % does not reach it, one of 10 % does
    broken = torch.from_numpy((vectors * values) @ vectors.T)
    moments = Moments(broken, torch.from_numpy(p.mean_abs_I), torch.from_numpy(p.max_abs_I), 144)
    method = plugin("gptq")
    solution = method.solve(p.weight, moments, formats.get("int3-g16"), method.Settings(range="minmax"))
    assert any("0.1" in note for note in solution.notes)
    want = oracle.solve(p.weight_OI, broken.numpy(), "int3-g16", damping=0.1)
    _check(p, want, solution.qtensor)


def test_a_hessian_beyond_repair_is_an_error():
    p = problem("plain", 16)
    broken = torch.from_numpy(p.hessian_II - 3 * p.hessian_II.diagonal().mean() * np.eye(48) * (np.arange(48) == 3))
    moments = Moments(broken, torch.from_numpy(p.mean_abs_I), torch.from_numpy(p.max_abs_I), 144)
    method = plugin("gptq")
    with pytest.raises(CompressError, match="positive definite"):
        method.solve(p.weight, moments, formats.get("int3-g16"), method.Settings(range="minmax"))


def test_dynamic_groups_with_hessian_order_are_refused():
    with pytest.raises(SettingsError, match="natural"):
        parse(plugin("gptq").Settings, {"groups": "dynamic", "order": "hessian"}, "step 1 (gptq)")


def test_the_factored_form_agrees_with_the_oracle_itself():
    """The oracle is checked too: the textbook factorization of the inverse gives its codes."""
    p = problem("correlated", 17)
    want = oracle.solve(p.weight_OI, p.hessian_II, "int3-g16", order="natural")
    upper = np.linalg.cholesky(np.linalg.inv(oracle.damped(p.hessian_II, 0.01))[::-1, ::-1])[::-1, ::-1]
    inverse = np.linalg.inv(oracle.damped(p.hessian_II, 0.01))
    u = np.linalg.cholesky(inverse).T
    assert not np.allclose(upper, u)  # two triangular factors exist; the update needs H^-1 = U^T U
    w = p.weight_OI.astype(np.float64)
    fitted = nf.fit("int3-g16", p.weight_OI)
    for j in range(w.shape[1]):
        code = nf.codes(fitted.column(j), w[:, j : j + 1])
        np.testing.assert_array_equal(code[:, 0], want.codes_OI[:, j])
        error = (w[:, j] - nf.values(fitted.column(j), code)[:, 0]) / u[j, j]
        w[:, j:] -= np.outer(error, u[j, j:])

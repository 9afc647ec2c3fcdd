"""SmoothQuant against equation 4, one channel at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from compress.problems import KINDS, plugin, problem
from netweight import formats
from oracles import smoothquant as oracle

INT8 = formats.get("int8-channel")


@pytest.mark.parametrize("strength", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("kind", KINDS)
def test_the_scale_is_equation_four(kind, strength):
    p, q = problem(kind, 0), problem(kind, 1)
    method = plugin("smoothquant")
    got = method.rescale({"a": p.weight, "b": q.weight}, p.moments(), INT8, method.Settings(strength=strength))
    want = oracle.scale([p.weight_OI, q.weight_OI], p.max_abs_I, strength)
    np.testing.assert_allclose(got.double().numpy(), want, rtol=2e-6)  # powers and a quotient in float32


def test_half_is_the_default_and_balances_both_sides():
    p = problem("outlier channel", 2)
    method = plugin("smoothquant")
    s = method.rescale({"a": p.weight}, p.moments(), INT8, method.Settings()).double().numpy()
    np.testing.assert_allclose(p.max_abs_I / s, np.abs(p.weight_OI).max(0) * s, rtol=5e-6)


def test_a_dead_input_or_column_gets_a_finite_positive_scale():
    p = problem("dead columns", 3)
    weight = p.weight.clone()
    weight[:, [0, 5]] = 0
    method = plugin("smoothquant")
    for strength in (0.0, 0.5, 1.0):
        s = method.rescale({"a": weight}, p.moments(), INT8, method.Settings(strength=strength))
        assert torch.isfinite(s).all() and (s > 0).all()

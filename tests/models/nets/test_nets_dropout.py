"""Dropout from sixteen random bits an element."""

from __future__ import annotations

import pytest
import torch

from netweight.models.nets._dropout import Dropout


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_elements_vanish_as_often_as_they_should_and_the_mean_stays(p):
    torch.manual_seed(0)
    n = 1_000_003  # no multiple of four
    out = Dropout(p)(torch.ones(n))
    rate = float((out == 0).float().mean())
    assert rate == pytest.approx(p, abs=4 * (p * (1 - p) / n) ** 0.5 + 2**-17)  # 4 standard errors, and p in 16 bits
    assert float(out.max()) == pytest.approx(1 / (1 - p), rel=1e-4)


def test_neighbours_are_independent():
    torch.manual_seed(1)
    kept = (Dropout(0.5)(torch.ones(400_000)) != 0).float() - 0.5
    for apart in (1, 2, 3, 4, 5, 64):
        assert abs(float((kept[:-apart] * kept[apart:]).mean()) * 4) < 4 / 400_000**0.5


def test_the_gradient_passes_where_the_element_does():
    x = torch.ones(1000, requires_grad=True)
    out = Dropout(0.5)(x)
    out.sum().backward()
    assert torch.equal(x.grad, out.detach())


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_memory_layout_is_kept(layout):
    x = torch.rand(2, 8, 4, 6).add_(1).contiguous(memory_format=layout)
    out = Dropout(0.5)(x)
    assert out.shape == x.shape and out.is_contiguous(memory_format=layout)
    assert torch.equal(out[out != 0], 2 * x[out != 0]) and 0 < int((out == 0).sum()) < x.numel()


def test_a_view_of_any_strides_will_do():
    x = torch.rand(6, 4).T
    assert set(Dropout(0.5)(x).ne(0).flatten().tolist()) == {True, False}


def test_evaluation_and_a_chance_of_zero_change_nothing():
    x = torch.rand(10)
    assert Dropout(0.5).eval()(x) is x and Dropout(0.0)(x) is x

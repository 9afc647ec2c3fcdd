"""Activations with a scale per token, against plain numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from netweight import formats
from netweight.errors import UnknownName


def plain(x: np.ndarray, levels: int) -> np.ndarray:
    """Row after row in float32, as the definition says."""
    out = np.zeros_like(x)
    for t, row in enumerate(x):
        most = np.float32(np.abs(row).max())
        if most > 0:
            codes = np.rint(row * (np.float32(levels) / most))
            assert np.abs(codes).max() == levels, "the largest takes the largest code"
            out[t] = codes * (most / np.float32(levels))
    return out


@pytest.mark.parametrize("bits, levels", [(8, 127), (6, 31), (4, 7), (2, 1)])
def test_values_are_those_of_the_definition(bits, levels):
    x = (
        np.random.default_rng(bits).standard_normal((40, 96)).astype(np.float32)
        * np.logspace(-3, 3, 40, dtype=np.float32)[:, None]
    )
    x[7] = 0
    found = formats.activations(f"int{bits}-token").round(torch.from_numpy(x))
    np.testing.assert_array_equal(found.numpy(), plain(x, levels))


def test_a_token_is_the_same_whatever_stands_beside_it():
    x = torch.randn(2, 5, 64, generator=torch.Generator().manual_seed(0))
    whole = formats.activations("int4-token").round(x)
    for b in range(2):
        for t in range(5):
            assert torch.equal(formats.activations("int4-token").round(x[b, t]), whole[b, t])


def test_rounding_twice_changes_nothing_more():
    x = torch.randn(9, 64, generator=torch.Generator().manual_seed(1))
    once = formats.activations("int4-token").round(x)
    torch.testing.assert_close(formats.activations("int4-token").round(once), once, rtol=1e-6, atol=0)


def test_gradients_pass_and_types_stay():
    x = torch.randn(3, 32, requires_grad=True)
    y = formats.activations("int8-token").round(x)
    seed = torch.randn(3, 32)
    y.backward(seed)
    assert torch.equal(x.grad, seed)
    assert formats.activations("int8-token").round(x.detach().bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("name", ["int9-token", "int8", "int1-token", "fp4-token", "int8-tokens"])
def test_an_unknown_name_is_refused_with_the_known_ones(name):
    with pytest.raises(UnknownName, match="int8-token"):
        formats.activations(name)

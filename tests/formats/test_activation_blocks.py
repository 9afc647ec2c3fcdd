"""Activations in blocks of channels: each sample as the NumPy codec rounds it alone, along any axis."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from netweight import formats
from netweight.errors import UnknownName
from oracles import number_formats

ORACLES = {
    "nvfp4": lambda x: number_formats.quantized("nvfp4-ragged", x),
    "mxfp4": lambda x: number_formats.quantized("mxfp4-ragged", x),
    "e4m3-g32": lambda x: number_formats.quantized("e4m3-g32-ragged", x),
    "int8-sym-g32": lambda x: number_formats.signed_integers(x, 8, 32),
    "nvfp4-four-over-six": number_formats.four_over_six,
}
# A second-level scale of all samples together would serve the largest, and flush the smallest to 0.
SPREAD = torch.tensor([1.0, 1e4, 1e-3, 30.0])


def samples(*shape: int) -> torch.Tensor:
    x = torch.randn(4, *shape, generator=torch.Generator().manual_seed(len(shape)))
    return x * SPREAD.reshape(-1, *[1] * len(shape))


def alone(name: str, sample: torch.Tensor, axis: int) -> np.ndarray:
    """One sample by the codec: its channels in rows, all rows under one second-level scale."""
    lines = sample.movedim(axis, -1)
    values = ORACLES[name](lines.reshape(-1, lines.shape[-1]).numpy())
    return np.moveaxis(values.reshape(lines.shape), -1, axis)


@pytest.mark.parametrize("name", ORACLES)
@pytest.mark.parametrize(
    ("shape", "axis"), [((7, 40), -1), ((40,), -1), ((40, 5, 6), -3), ((40, 9), -2), ((40, 2, 3, 4), -4)]
)
def test_every_sample_of_a_batch_is_rounded_as_the_codec_rounds_it_alone(name, shape, axis):
    x = samples(*shape)
    got = formats.activations(name).round(x, axis)
    want = np.stack([alone(name, one, axis) for one in x])
    np.testing.assert_array_equal(got.numpy(), want)
    assert got.shape == x.shape and not torch.equal(got, x)


@pytest.mark.parametrize("name", ORACLES)
@pytest.mark.parametrize(("shape", "axis"), [((40, 5, 6), -3), ((40, 5, 6), 0), ((40,), -1), ((40,), 0)])
def test_without_a_batch_it_is_one_sample(name, shape, axis):
    x = samples(*shape)[1]
    np.testing.assert_array_equal(formats.activations(name).round(x, axis).numpy(), alone(name, x, axis % len(shape)))


@pytest.mark.parametrize("name", ["nvfp4", "nvfp4-four-over-six", "mxfp4"])
def test_gradients_pass_and_types_stay(name):
    x = samples(32).requires_grad_()
    y = formats.activations(name).round(x)
    seed = torch.randn(4, 32)
    y.backward(seed)
    assert torch.equal(x.grad, seed)
    want = np.stack([alone(name, one, -1) for one in x.detach()])
    np.testing.assert_allclose(y.detach().numpy(), want, rtol=2**-22)  # x + (rounded - x): two float32 roundings
    half = x.detach().bfloat16()
    found = formats.activations(name).round(half)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, formats.activations(name).round(half.float()).bfloat16())


def test_what_it_is_called_and_that_it_has_no_levels():
    found = formats.activations("nvfp4-four-over-six")
    assert (found.name, found.levels) == ("nvfp4-four-over-six", 0)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nvfp5", "did you mean 'nvfp4'"),
        ("nvfp5-four-over-six", "did you mean 'nvfp4-four-over-six'"),
        ("four-over-six", "known: int2-token … int8-token, nvfp4, mxfp4"),
        ("-four-over-six", "known: int2-token … int8-token, nvfp4, mxfp4"),
        ("nvfp4-2d", "not of blocks of channels; known: int2-token"),
        ("nvfp4-2d-four-over-six", "not of blocks of channels; known: int2-token"),
        ("int8-sym-channel", "not of blocks of channels; known: int2-token"),
        ("e4m3-tensor", "not of blocks of channels; known: int2-token"),
        ("mxfp4-four-over-six", "the rule four-over-six is NVFP4's.*known: int2-token"),
        ("int4-g32", "symmetric formats.*known: int2-token"),
        ("nf4", "symmetric formats.*known: int2-token"),
    ],
)
def test_what_is_no_format_of_activations_is_refused_with_the_known_ones(name, said):
    with pytest.raises(UnknownName, match=f"'{name}' is not a format of activations.*{said}"):
        formats.activations(name)

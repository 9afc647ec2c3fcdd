"""Packed modules whose inputs are rounded in blocks: the product of what was rounded, for each sample by itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from netweight import formats, models
from netweight.runtime import PackedLinear, kernels
from netweight.runtime._linear import PackedConv2d, replacement
from oracles import number_formats

pytestmark = pytest.mark.skipif(kernels.missing() is not None, reason="no compiled kernels")
CODECS = {
    "nvfp4": lambda x: number_formats.quantized("nvfp4-ragged", x),
    "mxfp4": lambda x: number_formats.quantized("mxfp4-ragged", x),
    "nvfp4-four-over-six": number_formats.four_over_six,
}


def packed(layer: nn.Module, name: str) -> tuple[nn.Module, torch.Tensor]:
    """The module that takes the layer's place, and the weight that it stands for."""
    models.round_inputs(layer, name)
    q = formats.quantize(models.matrix_of(layer), formats.get("nvfp4"))
    models.set_matrix(layer, q.decode())
    found = replacement(layer, kernels.pack(formats.pack(q), q.format, q.shape), exact=False)
    assert found is not None
    return found, layer.weight.detach().double()


def inputs(*shape: int) -> torch.Tensor:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(5))
    return x * torch.tensor([1.0, 1e4, 1e-3]).reshape(-1, *[1] * (len(shape) - 1))


def rounded(x: torch.Tensor, name: str, axis: int) -> torch.Tensor:
    """Each sample's channels by the NumPy codec."""
    lines = x.movedim(axis, -1)
    each = [CODECS[name](one.reshape(-1, one.shape[-1]).numpy()).reshape(one.shape) for one in lines]
    return torch.from_numpy(np.stack(each)).double().movedim(-1, axis)


def close(got: torch.Tensor, want: torch.Tensor) -> None:
    """Sample by sample: sums in float32 beside sums in float64, of at most 432 products."""
    for one, other in zip(got.double(), want, strict=True):
        assert float((one - other).abs().max()) < 2e-6 * float(other.abs().max())


@pytest.mark.parametrize("name", CODECS)
@torch.no_grad()
def test_a_linear_layer(name):
    layer, x = nn.Linear(48, 24), inputs(3, 5, 48)
    found, weight = packed(layer, name)
    assert isinstance(found, PackedLinear) and found.blocks is not None and found.blocks.name == name
    close(found(x), rounded(x, name, -1) @ weight.T + layer.bias.double())
    for one, sample in zip(found(x), x, strict=True):
        assert torch.equal(found(sample[None])[0], one)


@pytest.mark.parametrize("name", CODECS)
@torch.no_grad()
def test_a_convolution_with_and_without_a_batch(name):
    layer, x = nn.Conv2d(48, 24, 3, padding=1, stride=2), inputs(3, 48, 7, 6)
    found, weight = packed(layer, name)
    assert isinstance(found, PackedConv2d) and found.blocks is not None and found.blocks.name == name
    want = nn.functional.conv2d(rounded(x, name, 1), weight, layer.bias.double(), stride=2, padding=1)
    close(found(x), want)
    for one, sample in zip(found(x), x, strict=True):
        assert torch.equal(found(sample[None])[0], one)
        assert torch.equal(found(sample), one)


@pytest.mark.parametrize(("name", "whole"), [("", False), ("int8-token", True)])
def test_whole_numbers_are_the_kernels_own_matter_and_nothing_is_nothing(name, whole):
    found, _ = packed(nn.Linear(64, 24), name)
    assert isinstance(found, PackedLinear) and found.blocks is None and not found.exact
    assert bool(found.matrix.spec.levels) == whole

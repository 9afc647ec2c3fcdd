"""Quantized layers in half precision: under autocast, and in a module that is itself in bfloat16."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from netweight.models import nets
from netweight.train import catalogue, quantize


class Mixed(nn.Module):
    """A convolution, a linear layer and a product of two inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.linear, self.mix = nn.Conv2d(16, 32, 3, padding=1), nn.Linear(32, 32), nets.MatMul()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.conv(x).flatten(2).mT
        return self.mix(self.linear(tokens), tokens.mT)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(2, 16, 4, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("row", [row for row in catalogue() if row.rounds], ids=lambda row: row.name)
def test_under_autocast_the_same_gradients_come_out(row, images):
    """To the bit where every product here rounds; the third, which LSQ and w4a16 do not round, follows autocast to bfloat16."""
    torch.manual_seed(0)
    net = Mixed()
    quantize(net, row, attention=True)
    other = copy.deepcopy(net)
    net(images).square().mean().backward()
    with torch.autocast("cpu", torch.bfloat16):
        y = other(images)
    y.float().square().mean().backward()
    for a, b in zip(net.parameters(), other.parameters(), strict=True):
        assert b.grad is not None and b.grad.dtype == torch.float32
        if row.between_inputs().rounds:
            assert torch.equal(a.grad, b.grad)
        else:  # three products in a row, each operand off by 2^-9 at most and by 2^-10 or so at the root of the mean square
            assert 0 < float((a.grad - b.grad).norm()) <= 2**-6 * float(a.grad.norm())


@pytest.mark.parametrize("name", ["nvfp4", "nvfp4-2d-rht-sr", "int8", "w4a16"])
def test_a_layer_in_bfloat16_multiplies_what_was_rounded_from_its_values(name, images):
    layer = nn.Linear(32, 32).bfloat16()
    wide = nn.Linear(32, 32)
    wide.load_state_dict(layer.float().state_dict())
    layer = layer.bfloat16()
    for one in (layer, wide):
        quantize(one, name)
    x = images.reshape(-1, 32).bfloat16().requires_grad_()
    y = layer(x)
    assert y.dtype == torch.bfloat16 and torch.equal(y, wide(x.detach().float()).bfloat16())
    y.sum().backward()
    assert x.grad is not None and x.grad.dtype == torch.bfloat16


@pytest.mark.parametrize("row", [row for row in catalogue() if row.rounds], ids=lambda row: row.name)
@pytest.mark.parametrize("layer", [nn.Linear(64, 32), nn.Conv2d(64, 32, 3, padding=1)], ids=["linear", "conv"])
def test_a_layer_under_autocast_is_of_float32_and_so_is_its_backward_there(row, layer):
    layer, other = copy.deepcopy(layer), copy.deepcopy(layer)
    shape = (9, 64) if isinstance(layer, nn.Linear) else (2, 64, 5, 5)
    x, y = (torch.randn(shape, generator=torch.Generator().manual_seed(1)).requires_grad_() for _ in range(2))
    for one in (layer, other):
        quantize(one, row)
    layer(x).square().sum().backward()
    with torch.autocast("cpu", torch.bfloat16):
        z = other(y)
        if (
            row.learned is None
        ):  # what rounds by learned scales leaves its product's backward to torch, which heeds autocast
            z.square().sum().backward()
    if row.learned is not None:
        z.square().sum().backward()
    assert z.dtype == torch.float32 and torch.equal(x.grad, y.grad)
    for a, b in zip(layer.parameters(), other.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)

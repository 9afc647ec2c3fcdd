"""Inverted residuals: what each part computes, written out, and the U-Net around them."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import nets as random_nets
from netweight.models import nets
from netweight.models.nets._inverted import Inverted, Squeeze


def x(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_squeeze_and_excitation_written_out():
    made = random_nets.filled(Squeeze(32, 16))
    image = x(2, 32, 5, 6)
    means = torch.stack([torch.stack([channel.mean() for channel in one]) for one in image])
    hidden = means @ made.fc1.weight[:, :, 0, 0].T + made.fc1.bias
    hidden = hidden / (1 + torch.exp(-hidden))
    factors = 1 / (1 + torch.exp(-(hidden @ made.fc2.weight[:, :, 0, 0].T + made.fc2.bias)))
    want = torch.stack(
        [torch.stack([c * f for c, f in zip(one, fs, strict=True)]) for one, fs in zip(image, factors, strict=True)]
    )
    assert torch.allclose(made(image), want, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(("expansion", "stride", "outputs"), [(4, 1, 16), (4, 2, 32), (1, 1, 16), (1, 1, 32)])
def test_a_block_written_out(expansion, stride, outputs):
    made = random_nets.filled(
        Inverted(16, outputs, expansion=expansion, activation=nn.ReLU6, squeeze=False, kernel=5, stride=stride)
    )
    image = x(2, 16, 8, 8)

    def normed(y, norm):
        y = (y - norm.running_mean.view(-1, 1, 1)) / (norm.running_var.view(-1, 1, 1) + norm.eps).sqrt()
        return y * norm.weight.view(-1, 1, 1) + norm.bias.view(-1, 1, 1)

    hidden = image
    if expansion > 1:
        hidden = normed(torch.einsum("oi,bihw->bohw", made.expand[0].weight[:, :, 0, 0], image), made.expand[1]).clamp(
            0, 6
        )
    conv = made.depthwise[0]
    taps = F.unfold(hidden, 5, padding=2, stride=stride).view(2, 16 * expansion, 25, -1)
    filtered = torch.einsum("ct,bctn->bcn", conv.weight.flatten(1), taps).unflatten(-1, (8 // stride, 8 // stride))
    filtered = normed(filtered, made.depthwise[1]).clamp(0, 6)
    want = normed(torch.einsum("oi,bihw->bohw", made.project[0].weight[:, :, 0, 0], filtered), made.project[1])
    if stride == 1 and outputs == 16:
        want = want + image
    assert torch.allclose(made(image), want, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("name", ["depthwise", "efficientnet"])
def test_every_level_is_joined_on_the_way_up(name):
    net = random_nets.filled(nets.build(name, "500k", image=64, seed=0))
    seen = []
    for block in net.up:
        block.register_forward_pre_hook(lambda m, inputs: seen.append(inputs[0]))
    levels = []
    for level in net.down:
        level.register_forward_hook(lambda m, i, output: levels.append(output))
    net(x(1, 3, 64, 64))
    assert [level.shape[-1] for level in levels] == [32, 16, 8, 4, 2]
    for joined, level in zip(seen, levels[-2::-1], strict=True):
        assert torch.equal(joined[:, -level.shape[1] :], level)


def test_only_efficientnet_squeezes_and_filters_wider():
    def facts(name):
        net = nets.build(name, "500k", image=64, seed=0)
        kernels = {m.kernel_size[0] for m in net.modules() if isinstance(m, nn.Conv2d) and m.groups > 1}
        return any(isinstance(m, Squeeze) for m in net.modules()), kernels

    assert facts("depthwise") == (False, {3})
    assert facts("efficientnet") == (True, {3, 5})

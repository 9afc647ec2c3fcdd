"""The convolutional U-Net: skips are used, nothing leaks from afar, and a shift of the image shifts the logits."""

from __future__ import annotations

import pytest
import torch

import nets as random_nets
from netweight.models import nets


@pytest.fixture(scope="module")
def net() -> nets.Net:
    """Two kinds of norm statistics and weights, so that nothing cancels."""
    return random_nets.filled(nets.build("cnn", "500k", image=256, seed=0))


def image(*, seed: int = 0) -> torch.Tensor:
    return torch.randn(1, 3, 256, 256, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def test_each_skip_changes_the_logits(net, monkeypatch):
    x = image()
    want = net(x)
    for stage in (net.first, *net.down):
        caught = []
        handle = stage.register_forward_hook(lambda m, i, o, caught=caught: caught.append(o))
        net(x)
        handle.remove()
        with monkeypatch.context() as patch:
            patch.setattr(torch, "cat", _zeroing(caught[0], torch.cat))
            assert (net(x) - want).abs().mean() > 1e-3


def _zeroing(skipped, cat):
    """``torch.cat``, to which this one tensor is zero."""

    def joined(tensors, dim):
        return cat([t * 0 if torch.equal(t, skipped) else t for t in tensors], dim)

    return joined


@torch.no_grad()
def test_a_shift_by_the_coarsest_step_shifts_the_logits(net):
    x = image()
    step = 16
    shifted = net(x.roll((step, step), (2, 3)))
    inside = slice(96, 160)  # further from the border than a pixel of the coarsest level sees
    want = net(x)[..., 80:144, 80:144]
    assert torch.allclose(shifted[..., inside, inside], want, atol=1e-4)


@torch.no_grad()
def test_a_pixel_is_seen_near_and_not_far(net):
    x = image()
    other = x.clone()
    other[..., 128, 128] += 1
    changed = (net(other) - net(x)).abs()[0, 0]
    assert changed[128, 128] > 0
    assert changed[:40].max() == 0 and changed[:, 220:].max() == 0


def test_the_encoder_drops_half_and_the_decoder_nothing():
    net = nets.build("cnn", "500k", image=64, seed=0)
    kept = {}

    def note(name):
        return lambda m, inputs, output: kept.update({name: float((output != 0).sum() / (inputs[0] != 0).sum())})

    for name, module in net.named_modules():
        if name.endswith("dropout"):
            module.register_forward_hook(note(name))
    net(image()[..., :64, :64].expand(8, -1, -1, -1))
    encoder = ("first", "down.0", "down.1", "bottleneck")
    assert all(kept[f"{s}.dropout"] == pytest.approx(0.5, abs=0.05) for s in encoder)
    assert all(kept[f"up.{n}.dropout"] == 1 for n in range(3))

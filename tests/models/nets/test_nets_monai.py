"""MONAI's nets through the interface of ours."""

from __future__ import annotations

import sys

import pytest
import torch

from netweight import models
from netweight.errors import ModelError
from netweight.models import nets
from netweight.recipe import matches

BUDGETS = {"500k": 507_000, "4m": 3_655_000, "15m": 13_850_000}


def test_without_monai_the_error_says_how_to_get_it(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "monai"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "monai", None)
    with pytest.raises(ModelError, match="pip install netweight.monai"):
        nets.build("monai-unet", "500k", seed=0)


def test_what_is_known_of_them_needs_no_monai():
    assert nets.sizes("monai-unet") == ("500k", "4m", "15m")
    assert nets.sizes("monai-swinunetr") == ("4m", "15m")
    assert nets.unquantized("monai-swinunetr")


@pytest.fixture
def monai():
    pytest.importorskip("monai", reason="MONAI is not installed: pip install -c constraints.txt -e '.[monai]'")


@pytest.mark.parametrize(("name", "size"), [(n, s) for n in ("monai-unet", "monai-swinunetr") for s in nets.sizes(n)])
def test_the_budgets_are_kept_and_what_is_rounded_fits_blocks_of_sixteen(name, size, monai):
    net = nets.build(name, size, image=128, seed=0)
    assert sum(p.numel() for p in net.parameters()) == pytest.approx(BUDGETS[size], rel=0.05)
    layers = models.layers(models.load(net))
    assert all(any(matches(p, n) for n in layers) for p in nets.unquantized(name))
    chosen = [n for n in layers if not any(matches(p, n) for p in nets.unquantized(name))]
    assert len(chosen) >= 12
    for layer in chosen:
        module = net.get_submodule(layer)
        inputs = getattr(module, "in_features", 0) or module.in_channels
        outputs = getattr(module, "out_features", 0) or module.out_channels
        assert inputs % 16 == 0 and outputs % 16 == 0, layer


@pytest.mark.parametrize("name", ["monai-unet", "monai-swinunetr"])
def test_it_is_a_net_like_ours(name, monai):
    size = nets.sizes(name)[0]
    torch.manual_seed(0)
    net, again = (nets.build(name, size, image=64, seed=1).eval() for _ in range(2))
    images = torch.randn(2, 3, 64, 64)
    logits = net(images)
    assert logits.shape == (2, 1, 64, 64) and torch.equal(logits, again(images))
    assert nets.describe(net)["name"] == name
    logits.square().sum().backward()
    assert all(p.grad is not None for p in net.parameters())

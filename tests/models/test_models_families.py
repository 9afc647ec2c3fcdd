"""Every family row holds on a tiny random model: found through the registry, so a new row is tested without being told."""

from __future__ import annotations

import pytest
import torch
from tiny_models import tiny_module

from netweight import models
from netweight.errors import ModelError

TYPES = [(family.name, model_type) for family in models.families() for model_type in family.model_types]
SAME = {"rtol": 1e-9, "atol": 1e-9}  # float64: a fold costs a few roundings of 1e-16, amplified by three random blocks


def logits(module, ids_BT):
    with torch.no_grad():
        result = module(input_ids=ids_BT)
    return result.logits if "logits" in result else result.last_hidden_state


@pytest.mark.parametrize("name, model_type", TYPES)
def test_every_path_of_a_row_resolves(name, model_type):
    model = models.load(tiny_module(model_type))
    assert model.family.name == name
    assert len(models.blocks(model)) == 3
    base = model.module.base_model_prefix
    inner = dict(model.module.named_modules())
    for path in (*model.family.stem, model.family.norm):
        assert not path or path in inner or f"{base}.{path}" in inner
    assert model.kind == model.family.kind
    assert models.feeds(model, models.blocks(model)[0])


@pytest.mark.parametrize("kv_heads", [4, 2])
@pytest.mark.parametrize("name, model_type", TYPES)
def test_folding_a_scale_into_a_feed_leaves_the_outputs_unchanged(name, model_type, kv_heads, ids_BT):
    model = models.load(tiny_module(model_type, kv_heads=kv_heads, dtype=torch.float64))
    before = logits(model.module, ids_BT)
    generator = torch.Generator().manual_seed(1)
    for block in models.blocks(model):
        for feed in models.feeds(model, block):
            width = models.matrix_shape(model.module.get_submodule(feed.layers[0]))[1]
            scale = torch.rand(width, generator=generator, dtype=torch.float64) * 4 + 0.25
            weight = model.module.get_submodule(feed.source).weight.clone()
            models.fold(model.module, feed, scale)
            assert not torch.equal(weight, model.module.get_submodule(feed.source).weight)
    torch.testing.assert_close(logits(model.module, ids_BT), before, **SAME)


def test_a_value_projection_feeds_the_output_only_where_heads_are_not_grouped():
    def sources(kv_heads):
        model = models.load(tiny_module("llama", kv_heads=kv_heads))
        return [feed.source for feed in models.feeds(model, "model.layers.1")]

    assert "model.layers.1.self_attn.v_proj" in sources(4)
    assert "model.layers.1.self_attn.v_proj" not in sources(2)


def test_a_scale_that_is_not_positive_is_refused():
    model = models.load(tiny_module("llama"))
    feed = models.feeds(model, "model.layers.0")[0]
    with pytest.raises(ModelError, match="positive and finite; the smallest is 0"):
        models.fold(model.module, feed, torch.zeros(32))
    with pytest.raises(ModelError, match=r"shape \(31,\), the source gives 32"):
        models.fold(model.module, feed, torch.ones(31))


def test_an_unknown_module_is_one_block():
    model = models.load(torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2)))
    assert (model.family.name, model.kind, models.blocks(model)) == ("plain", "module", ("",))
    assert models.feeds(model, "") == ()


def test_feeds_of_what_is_no_block_are_refused():
    with pytest.raises(ModelError, match="is not a block"):
        models.feeds(models.load(tiny_module("llama")), "model.layers.9")


def test_a_headless_base_model_has_the_same_blocks():
    inner = tiny_module("llama").model
    assert models.blocks(models.load(inner))[0] == "layers.0"

"""Weights come one block at a time, stay tied, and are refused when they are not finite."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import tiny_module

from netweight import models
from netweight.errors import ModelError, NotFiniteError

META = torch.device("meta")


def filled(model) -> set[str]:
    return {name for name, p in model.module.named_parameters(remove_duplicate=False) if p.device != META}


def test_parameters_stay_empty_until_asked_for(saved):
    _, folder = saved("llama")
    model = models.load(folder)
    assert filled(model) == set()
    models.materialize(model, "model.layers.1")
    assert filled(model) and all(name.startswith("model.layers.1.") for name in filled(model))
    models.release(model, "model.layers.1")
    assert filled(model) == set()


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "bert"])
def test_a_filled_model_equals_the_saved_one(saved, model_type, ids_BT):
    module, folder = saved(model_type)
    model = models.load(folder)
    models.materialize(model)
    assert {k: v.shape for k, v in model.module.state_dict().items()} == {
        k: v.shape for k, v in module.state_dict().items()
    }
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, model.module.state_dict()[name]), name
    with torch.no_grad():
        assert torch.equal(model.module(ids_BT)[0], module(ids_BT)[0])  # the computed buffers are right too


def test_a_prefix_ends_at_a_dot(saved):
    module = tiny_module("llama")
    _, folder = saved("llama")
    model = models.load(folder)
    read = models.materialize(model, "model.layers.1")
    assert len(read) == len(list(module.model.layers[1].parameters()))
    assert models.materialize(model, "model.norm.weight") == ("model.norm.weight",)


@pytest.mark.parametrize("first", ["lm_head", "model.embed_tokens"])
def test_tied_weights_stay_one_object_whichever_is_filled(saved, first):
    _, folder = saved("llama", tied=True)
    model = models.load(folder)
    assert model.tied == {"lm_head.weight": "model.embed_tokens.weight"}
    assert models.materialize(model, first) == ("model.embed_tokens.weight",)
    assert model.module.lm_head.weight is model.module.model.embed_tokens.weight
    models.release(model, first)
    assert model.module.lm_head.weight is model.module.model.embed_tokens.weight
    assert filled(model) == set()


def test_untied_heads_are_read_on_their_own(saved):
    module, folder = saved("llama", tied=False)
    model = models.load(folder)
    assert models.materialize(model, "lm_head") == ("lm_head.weight",)
    assert torch.equal(model.module.lm_head.weight, module.lm_head.weight)
    assert model.module.model.embed_tokens.weight.device == META


def test_what_was_changed_is_not_read_again(saved):
    _, folder = saved("llama")
    model = models.load(folder)
    models.materialize(model, "model.layers.0")
    model.module.model.layers[0].mlp.up_proj.weight.data.fill_(7.0)
    models.materialize(model)
    assert bool((model.module.model.layers[0].mlp.up_proj.weight == 7).all())


def test_streaming_keeps_one_block_in_memory(saved):
    """Counts the bytes of the tensors a source has handed out and that are still alive."""
    _, folder = saved("llama")
    inner = models.load(folder)

    class Counting:
        alive = 0
        most = 0
        files = inner.weights.files
        names, shape = inner.weights.names, inner.weights.shape
        nbytes, stored_as = inner.weights.nbytes, inner.weights.stored_as

        def load(self, name):
            tensor = inner.weights.load(name)
            self.alive += tensor.nbytes
            self.most = max(self.most, self.alive)
            weakref.finalize(tensor.untyped_storage(), self.freed, tensor.nbytes)
            return tensor

        def freed(self, nbytes):
            self.alive -= nbytes

    source = Counting()
    model = replace(inner, weights=source)
    for block in models.blocks(model):
        models.materialize(model, block)
        models.release(model, block)
        gc.collect()
    block_bytes = sum(p.numel() * 4 for p in model.module.model.layers[0].parameters())
    assert source.alive == 0
    assert source.most == block_bytes


def test_the_asked_for_type_is_given(saved):
    _, folder = saved("llama", dtype=torch.bfloat16)
    model = models.load(folder, dtype=torch.float64)
    models.materialize(model)
    assert {p.dtype for p in model.module.parameters()} == {torch.float64}
    assert model.weights.stored_as("model.norm.weight") == "BF16"


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_names_its_module(saved, bad):
    _, folder = saved("llama")
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"][3, 4] = bad
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    model = models.load(folder)
    models.materialize(model, "model.layers.0")
    with pytest.raises(NotFiniteError, match=r"model\.layers\.1\.mlp\.up_proj: weight holds 1 NaN or Inf of 1536"):
        models.materialize(model, "model.layers.1")


def test_large_finite_weights_pass_although_their_sum_overflows():
    module = torch.nn.Linear(4, 4, bias=False)
    module.weight.data.fill_(3e38)
    models.materialize(models.load(module))


def test_a_live_module_is_left_as_it_is_but_checked():
    module = torch.nn.Sequential(torch.nn.Linear(2, 2))
    weight = module[0].weight
    model = models.load(module)
    assert models.materialize(model) == ()
    models.release(model)
    assert module[0].weight is weight and model.module is module
    weight.data[0, 0] = float("nan")
    with pytest.raises(NotFiniteError, match="^0: weight holds 1 NaN"):
        models.materialize(model)


def test_a_prefix_that_names_nothing_offers_the_nearest(saved):
    _, folder = saved("llama")
    with pytest.raises(ModelError, match="did you mean 'model.layers.2'"):
        models.materialize(models.load(folder), "model.layer.2")


def test_the_hash_follows_the_bytes(saved):
    module, folder = saved("llama")
    assert models.load(folder).sha256 == models.load(folder).sha256
    live = models.load(module).sha256
    assert live == models.load(module).sha256
    module.model.norm.weight.data[0] += 1
    assert models.load(module).sha256 != live

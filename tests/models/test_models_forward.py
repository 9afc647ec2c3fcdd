"""Stem, blocks and tail, streamed one at a time, compute what the whole model computes."""

from __future__ import annotations

import pytest
import torch
from tiny_models import tiny_module
from transformers import BertConfig, BertForMaskedLM, Qwen2Config, Qwen2ForCausalLM

from netweight import models
from netweight.errors import DataError

META = torch.device("meta")


def streamed(model, batches):
    inputs = models.capture_block_inputs(model, batches)
    hidden = [item.hidden for item in inputs]
    for index, block in enumerate(models.blocks(model)):
        models.materialize(model, block)
        module = model.module.get_submodule(block)
        hidden = [models.run_block(module, *item.call(index, h))[0] for item, h in zip(inputs, hidden, strict=True)]
        models.release(model, block)
    return [models.run_tail(model, h) for h in hidden]


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("model_type, kv_heads", [("llama", 2), ("gpt2", 4), ("bert", 4), ("qwen3", 2), ("smollm3", 2)])
def test_the_parts_equal_the_whole_bit_for_bit(saved, model_type, kv_heads, padded, ids_BT):
    module, folder = saved(model_type, kv_heads=kv_heads)
    batch = {"input_ids": ids_BT}
    if padded:
        batch["attention_mask"] = torch.ones_like(ids_BT)
        batch["attention_mask"][0, -4:] = 0
    with torch.no_grad():
        want = module(**batch)[0]
    model = models.load(folder)
    (got, again) = streamed(model, [batch, batch])
    assert torch.equal(got, want) and torch.equal(again, want)


def test_only_the_stem_is_filled_to_capture_and_then_emptied(saved, ids_BT):
    _, folder = saved("llama", tied=False)
    model = models.load(folder)
    models.capture_block_inputs(model, [{"input_ids": ids_BT}])
    assert all(p.device == META for p in model.module.parameters())


def test_a_stem_that_was_filled_and_changed_is_used_as_it_is_and_emptied(saved, ids_BT):
    _, folder = saved("llama")
    model = models.load(folder)
    models.materialize(model, "model.embed_tokens")
    model.module.model.embed_tokens.weight.data.fill_(0.5)
    (item,) = models.capture_block_inputs(model, [{"input_ids": ids_BT}])
    assert bool((item.hidden == 0.5).all())
    assert model.module.lm_head.weight.device == META


def test_blocks_with_different_masks_each_get_their_own():
    config = Qwen2Config(
        hidden_size=32, intermediate_size=48, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=64, use_sliding_window=True, sliding_window=4, max_window_layers=2,
    )  # fmt: skip
    module = Qwen2ForCausalLM(config).eval()
    ids_BT = torch.arange(20)[None]
    with torch.no_grad():
        want = module(ids_BT).logits
    assert torch.equal(streamed(models.load(module), [{"input_ids": ids_BT}])[0], want)


def test_a_module_in_training_is_run_in_evaluation_and_left_as_it_was(ids_BT):
    module = tiny_module("gpt2").train()
    model = models.load(module)
    first, second = (streamed(model, [{"input_ids": ids_BT}])[0] for _ in range(2))
    assert torch.equal(first, second)  # dropout is off
    assert all(m.training for m in module.modules())
    assert "forward" not in module.transformer.h[0].__dict__


def test_a_plain_module_is_its_own_block():
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh())
    model = models.load(module)
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    inputs = models.capture_block_inputs(model, [x, (x,), {"input": x}])
    for item in inputs:
        (y, *_) = models.run_block(module, *item.call(0))
        assert torch.equal(models.run_tail(model, y), module(x))


def test_no_batches_and_strange_batches_are_refused(ids_BT):
    model = models.load(tiny_module("llama"))
    with pytest.raises(DataError, match="no batches"):
        models.capture_block_inputs(model, [])
    with pytest.raises(DataError, match="takes batches like"):
        models.capture_block_inputs(model, [ids_BT])
    with pytest.raises(DataError, match="does not take this batch"):
        models.capture_block_inputs(model, [{"input_ids": ids_BT + 1000}])


def test_the_output_of_an_encoder_with_a_head_is_its_states():
    module = BertForMaskedLM(
        BertConfig(hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4, vocab_size=64)
    ).eval()
    batch = {"input_ids": torch.arange(6)[None]}
    with torch.no_grad():
        want = module.bert(**batch).last_hidden_state
        assert torch.equal(models.run_model(models.load(module), module, batch), want)

"""A rotated model computes what the original computes, from weights that are the original's times one orthogonal matrix."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers
from tiny_models import tiny_module

from netweight import models
from netweight.errors import ModelError
from netweight.models._weights import FileSource

FAMILIES = [name for family in models.families() if family.residual for name in family.model_types]
WITH_HEADS = [name for family in models.families() if family.heads for name in family.model_types]
BOTH = {"residual": True, "heads": True, "untie": True, "seed": 0}
HEADS = {"residual": False, "heads": True, "untie": False, "seed": 0}
META = torch.device("meta")


def output(module, ids_BT):
    with torch.no_grad():
        result = module(input_ids=ids_BT)
    return result.logits if "logits" in result else result.last_hidden_state


def error(found, want) -> float:
    return float((found.double() - want.double()).norm() / want.double().norm())


def exact_norm(self, x):
    """An RMS norm in the type of its input, where transformers computes in float32."""
    return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)


def rotated(model, **options):
    found = models.rotate(model, **options)
    models.materialize(found.model, "")
    return found.model


def tensors(module) -> dict[str, np.ndarray]:
    return {name: value.detach().numpy() for name, value in module.state_dict().items()}


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kv_heads", [4, 2, 1])
@pytest.mark.parametrize("model_type", FAMILIES)
def test_logits_stay_the_same(model_type, kv_heads, tied, ids_BT, monkeypatch):
    module = tiny_module(model_type, kv_heads=kv_heads, tied=tied)
    assert error(output(rotated(models.load(module), **BOTH).module, ids_BT), output(module, ids_BT)) < 1e-5
    module = tiny_module(model_type, kv_heads=kv_heads, tied=tied, dtype=torch.float64)
    monkeypatch.setattr(type(module.model.norm), "forward", exact_norm)
    assert error(output(rotated(models.load(module), **BOTH).module, ids_BT), output(module, ids_BT)) < 1e-12


@pytest.mark.parametrize("model_type", WITH_HEADS)
def test_heads_alone_leave_the_outputs_the_same_and_all_other_layers_as_they_were(model_type, ids_BT, monkeypatch):
    module = tiny_module(model_type, kv_heads=2, dtype=torch.float64)
    if model_type in FAMILIES:
        monkeypatch.setattr(type(module.model.norm), "forward", exact_norm)
    found = models.rotate(models.load(module), **HEADS)
    models.materialize(found.model, "")
    assert error(output(found.model.module, ids_BT), output(module, ids_BT)) < 1e-12
    before, after = tensors(module), tensors(found.model.module)
    changed = {name.rpartition(".")[0] for name in before if not np.array_equal(before[name], after[name])}
    assert changed == set(found.layers) and len(found.layers) == 6
    assert list(found.layers) == [name for name in models.layers(found.model) if name in changed]


def biased_llama():
    config = transformers.LlamaConfig(
        hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=3, num_key_value_heads=3,
        vocab_size=64, max_position_embeddings=64, attention_bias=True, mlp_bias=True, tie_word_embeddings=False,
        pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    torch.manual_seed(1)
    module = transformers.LlamaForCausalLM._from_config(config, dtype=torch.float64).eval()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return module


def test_every_bias_turns_with_the_outputs_of_its_layer(ids_BT, monkeypatch):
    module = biased_llama()
    monkeypatch.setattr(type(module.model.norm), "forward", exact_norm)
    found = rotated(models.load(module), **BOTH)
    assert error(output(found.module, ids_BT), output(module, ids_BT)) < 1e-12
    before, after = tensors(module), tensors(found.module)
    same = {n for n in before if n.endswith("bias") and np.array_equal(before[n], after[n])}
    assert {n.split(".")[-2] for n in same} == {"q_proj", "k_proj", "gate_proj", "up_proj"}


def test_weights_are_the_originals_times_the_matrix_that_turned_the_embedding():
    module = biased_llama()
    old, new = tensors(module), tensors(rotated(models.load(module), **BOTH).module)
    embedding = "model.embed_tokens.weight"
    r = np.linalg.lstsq(old[embedding], new[embedding], rcond=None)[0]
    np.testing.assert_allclose(r @ r.T, np.eye(24), atol=1e-12)
    np.testing.assert_allclose(np.abs(r), 24**-0.5, atol=1e-12)  # 24 = 2 * 12 has a Hadamard matrix
    close = {"rtol": 0, "atol": 1e-12}
    np.testing.assert_allclose(new["lm_head.weight"], old["lm_head.weight"] * old["model.norm.weight"] @ r, **close)
    signs = []
    for at in ("model.layers.0.", "model.layers.1."):
        first, second = (old[f"{at}{name}.weight"] for name in ("input_layernorm", "post_attention_layernorm"))
        for name, g in (
            ("self_attn.q_proj", first),
            ("self_attn.k_proj", first),
            ("mlp.gate_proj", second),
            ("mlp.up_proj", second),
        ):
            np.testing.assert_allclose(new[f"{at}{name}.weight"], old[f"{at}{name}.weight"] * g @ r, **close)
        np.testing.assert_allclose(new[f"{at}mlp.down_proj.weight"], r.T @ old[f"{at}mlp.down_proj.weight"], **close)
        np.testing.assert_allclose(new[f"{at}mlp.down_proj.bias"], r.T @ old[f"{at}mlp.down_proj.bias"], **close)
        value = old[f"{at}self_attn.v_proj.weight"] * first @ r
        turned = new[f"{at}self_attn.v_proj.weight"]
        h = np.linalg.lstsq(value[:8].T, turned[:8].T, rcond=None)[0]
        np.testing.assert_allclose(np.abs(h), 8**-0.5, atol=1e-12)
        whole = np.kron(np.eye(3), h)
        np.testing.assert_allclose(turned, whole.T @ value, **close)
        out = f"{at}self_attn.o_proj"
        np.testing.assert_allclose(new[f"{out}.weight"], r.T @ old[f"{out}.weight"] @ whole, **close)
        np.testing.assert_allclose(new[f"{out}.bias"], r.T @ old[f"{out}.bias"], **close)
        signs.append(np.sign(h))
        assert all((new[f"{at}{norm}.weight"] == 1).all() for norm in ("input_layernorm", "post_attention_layernorm"))
    assert (new["model.norm.weight"] == 1).all()
    assert not np.array_equal(*signs)  # another matrix in every block


def test_channels_that_stand_out_are_spread():
    module = tiny_module("llama", tied=False)
    with torch.no_grad():
        for block in module.model.layers:
            block.input_layernorm.weight[[3, 17]] = 60.0
            block.post_attention_layernorm.weight[5] = -80.0
            block.self_attn.v_proj.weight[9] *= 50
            block.self_attn.o_proj.weight[:, 2] *= 50
    found = rotated(models.load(module), **BOTH)

    def peak(weight) -> float:
        return float(weight.detach().abs().max() / weight.detach().pow(2).mean().sqrt())

    for before, after in zip(module.model.layers, found.module.model.layers, strict=True):
        attention, inner = before.input_layernorm.weight, before.post_attention_layernorm.weight
        for name, gain in (
            ("self_attn.q_proj", attention),
            ("self_attn.k_proj", attention),
            ("mlp.gate_proj", inner),
            ("mlp.up_proj", inner),
        ):
            folded = before.get_submodule(name).weight * gain
            assert peak(after.get_submodule(name).weight) < 0.6 * peak(folded), name
        assert peak(after.self_attn.v_proj.weight) < 0.4 * peak(before.self_attn.v_proj.weight * attention)
        assert peak(after.self_attn.o_proj.weight) < 0.6 * peak(before.self_attn.o_proj.weight)


def test_the_seed_chooses_the_signs_and_nothing_else_does():
    module = tiny_module("llama", tied=False)
    one, again, other = (tensors(rotated(models.load(module), **{**BOTH, "seed": s}).module) for s in (0, 0, 1))
    assert all(np.array_equal(one[name], again[name]) for name in one)
    name = "model.embed_tokens.weight"
    assert not np.array_equal(one[name], other[name])
    heads, both = (tensors(rotated(models.load(module), **{**HEADS, "residual": r}).module) for r in (False, True))
    key = "model.layers.1.self_attn.v_proj.weight"
    gain = module.model.layers[1].input_layernorm.weight.detach().double().numpy()
    # the heads' matrix is the same whether or not the stream is rotated: both have the same Gram matrix against their columns
    r = np.linalg.lstsq(tensors(module)[name].astype(float), both[name].astype(float), rcond=None)[0]
    np.testing.assert_allclose(heads[key] * gain @ r, both[key], atol=2e-5)


def test_a_live_module_is_left_as_it_is():
    module = tiny_module("llama")
    before, config = copy.deepcopy(module.state_dict()), module.config.to_dict()
    model = models.load(module)
    found = rotated(model, **BOTH)
    for layer in ("model.layers.0.mlp.gate_proj", "model.embed_tokens"):
        with torch.no_grad():
            found.module.get_submodule(layer).weight.zero_()
    heads = rotated(model, **HEADS)
    with torch.no_grad():
        heads.module.model.layers[0].mlp.gate_proj.weight.zero_()  # not rotated: must be no view of the caller's
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert module.config.to_dict() == config and module.lm_head.weight is module.model.embed_tokens.weight
    assert found.sha256 == models.load(module).sha256


def test_a_head_of_its_own_is_neither_tied_in_the_model_nor_in_its_config(saved):
    _, folder = saved("llama", tied=True)
    model = models.load(folder)
    found = models.rotate(model, **BOTH).model
    assert dict(found.tied) == {} and dict(model.tied) == {"lm_head.weight": "model.embed_tokens.weight"}
    assert found.config.tie_word_embeddings is found.module.config.tie_word_embeddings is False
    assert model.config.tie_word_embeddings is model.module.config.tie_word_embeddings is True
    assert models.layers(found)["lm_head"].tied_to == "" and "lm_head.weight" in found.weights.names()
    assert (found.weights.nbytes("lm_head.weight"), found.weights.nbytes("model.embed_tokens.weight")) == (
        0,
        64 * 32 * 4,
    )


def test_a_folder_keeps_its_hash_and_is_read_part_by_part(saved, monkeypatch):
    _, folder = saved("llama", tied=False)
    model = models.load(folder)
    found = models.rotate(model, **BOTH).model
    assert found.sha256 == model.sha256
    assert all(p.device == META for p in found.module.parameters())
    read = []
    load = FileSource.load
    monkeypatch.setattr(FileSource, "load", lambda self, name: read.append(name) or load(self, name))
    models.materialize(found, "model.layers.1")
    assert read and all(name.startswith("model.layers.1.") for name in read)
    assert {n.split(".")[2] for n, p in found.module.named_parameters() if p.device != META} == {"1"}
    models.release(found, "model.layers.1")
    assert all(p.device == META for p in found.module.parameters())


@pytest.mark.parametrize("dtype, name", [(torch.bfloat16, "BF16"), (torch.float16, "F16"), (torch.float32, "F32")])
def test_what_is_not_to_be_rounded_comes_in_the_float_type_it_was_stored_in(dtype, name, saved):
    _, folder = saved("llama", tied=False, dtype=dtype)
    found = models.rotate(models.load(folder), **BOTH).model
    wide, head, norm = "model.layers.0.mlp.up_proj.weight", "lm_head.weight", "model.norm.weight"
    assert found.weights.stored_as(wide) == "F32" and found.weights.load(wide).dtype == torch.float32
    exact = found.weights.load(head)
    small = models.with_stored_types(found, frozenset({wide}))
    assert small.weights.load(head).dtype == dtype and torch.equal(small.weights.load(head), exact.to(dtype))
    assert (small.weights.stored_as(head), small.weights.stored_as(norm)) == (name, name)
    assert torch.equal(small.weights.load(wide), found.weights.load(wide))
    assert small.weights.nbytes(wide) == models.load(folder).weights.nbytes(wide)
    assert models.kept_bytes(small, head) == 64 * 32 * dtype.itemsize


def test_a_rotated_element_beyond_float16_is_an_error_that_names_it(saved):
    module = tiny_module("llama", tied=False)
    module.lm_head.weight.data[7] = 60000.0
    module.model.norm.weight.data.fill_(8.0)
    found = models.rotate(models.load(module.half()), **BOTH).model
    with pytest.raises(ModelError, match=r"lm_head.weight: rotated, .* more than F16 holds"):
        models.materialize(models.with_stored_types(found, frozenset()), "lm_head")


def test_the_families_are_those_that_are_known():
    assert set(FAMILIES) >= {"llama", "mistral", "qwen2", "qwen3", "smollm3"} and {"gpt2", "bert"} <= set(WITH_HEADS)


def test_only_what_is_built_for_it_has_its_stream_rotated():
    def why(module, untie=False):
        return models.residual_obstacle(models.load(module), untie=untie)

    assert why(tiny_module("llama", tied=False)) == why(tiny_module("llama"), untie=True) == ""
    assert "shares the embedding's weight" in why(tiny_module("llama"))
    assert "bert" in why(tiny_module("bert"), untie=True) and "gpt2" in why(tiny_module("gpt2"), untie=True)
    assert "no head" in why(tiny_module("llama").model, untie=True)
    assert "no family" in why(torch.nn.Linear(4, 4))
    with pytest.raises(ModelError, match="cannot be rotated: in a gpt2 model"):
        models.rotate(models.load(tiny_module("gpt2")), **BOTH)


def test_heads_that_do_not_fit_their_layers_are_named():
    module = tiny_module("bert")
    module.config.num_attention_heads = 5
    assert "encoder.layer.0 has 32 channels of values and 32 that 5 heads give" in models.heads_obstacle(
        models.load(module)
    )
    assert "plain" in models.heads_obstacle(models.load(torch.nn.Linear(4, 4)))


def test_layers_that_share_a_weight_or_are_no_linear_layers_are_refused():
    module = tiny_module("llama", tied=False)
    module.model.layers[2].mlp.up_proj.weight = module.model.layers[0].mlp.up_proj.weight
    with pytest.raises(ModelError, match=r"layers.0.mlp.up_proj shares its weight with model.layers.2.mlp.up_proj"):
        models.rotate(models.load(module), **BOTH)
    module = tiny_module("llama", tied=False)
    module.model.layers[1].mlp.up_proj = torch.nn.Sequential(module.model.layers[1].mlp.up_proj)
    with pytest.raises(ModelError, match=r"layers.1.mlp.up_proj is a Sequential, not a linear layer"):
        models.rotate(models.load(module), **BOTH)


def test_a_norm_that_is_not_an_rms_norm_is_refused():
    module = tiny_module("llama", tied=False)
    module.model.norm = torch.nn.LayerNorm(32)
    with pytest.raises(ModelError, match=r"model.norm holds weight, bias, an RMS norm its weight"):
        models.rotate(models.load(module), **BOTH)


def test_a_story_teller_tells_the_same(stories_model, stories):
    ids = torch.randint(3, 500, (1, 24), generator=torch.Generator().manual_seed(2))
    found = rotated(stories_model, **BOTH)
    original = models.load(stories)
    models.materialize(original, "")
    assert error(output(found.module, ids), output(original.module, ids)) < 1e-5


def test_any_other_model_is_given_back_as_it_is():
    model = models.load(tiny_module("llama"))
    assert models.with_stored_types(model, frozenset()) is model
    assert replace(model).sha256 == model.sha256

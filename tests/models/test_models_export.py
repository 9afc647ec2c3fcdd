"""Config and tokenizer as a folder that transformers opens."""

from __future__ import annotations

import json

import pytest
import torch
import transformers
from safetensors.torch import save_file
from tiny_models import tiny_module

from netweight import models
from netweight.errors import ModelError


def test_transformers_opens_the_folder_and_computes_the_same(saved, tmp_path, ids_BT):
    module, folder = saved("llama", kv_heads=2)
    model = models.load(folder)
    out = tmp_path / "out"
    assert models.save_tokenizer_and_config(model, out) == ("config.json", "generation_config.json")
    models.materialize(model)
    tensors = {k: v.clone() for k, v in model.module.state_dict().items() if k != "lm_head.weight"}
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    again = transformers.AutoModelForCausalLM.from_pretrained(out)
    with torch.no_grad():
        assert torch.equal(again(ids_BT).logits, module(ids_BT).logits)
    assert again.config.bos_token_id == module.config.bos_token_id


def test_the_bytes_depend_on_the_model_alone(saved, tmp_path):
    _, folder = saved("llama")
    model = models.load(folder)
    for name in ("one", "two/deeper"):
        models.save_tokenizer_and_config(model, tmp_path / name)
    for name in ("config.json", "generation_config.json"):
        data = (tmp_path / "one" / name).read_bytes()
        assert data == (tmp_path / "two/deeper" / name).read_bytes()
        assert str(tmp_path).encode() not in data and b"transformers_version" not in data


def test_settings_that_are_none_are_kept_so_that_no_default_comes_back(tmp_path):
    module = tiny_module("llama")
    module.config.bos_token_id = None
    models.save_tokenizer_and_config(models.load(module), tmp_path)
    assert transformers.AutoConfig.from_pretrained(tmp_path).bos_token_id is None


def test_a_plain_module_has_no_config_to_write(tmp_path):
    with pytest.raises(ModelError, match="without a transformers config"):
        models.save_tokenizer_and_config(models.load(torch.nn.Linear(2, 2)), tmp_path)


@pytest.mark.parametrize("name", ["smollm2_model", "minilm_model", "stories_model"])
def test_a_real_tokenizer_comes_back_the_same_and_says_nothing_of_its_origin(name, request, tmp_path):
    model = request.getfixturevalue(name)
    names = models.save_tokenizer_and_config(model, tmp_path / "out")
    assert {"config.json", "tokenizer.json", "tokenizer_config.json"} <= set(names)
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    text = "Once upon a time, a café\nsold 3 {braces} for $2.50."
    assert again(text)["input_ids"] == model.tokenizer()(text)["input_ids"]
    assert again.decode(again(text)["input_ids"]) == model.tokenizer().decode(model.tokenizer()(text)["input_ids"])
    for path in (tmp_path / "out").iterdir():
        written = path.read_bytes()
        for word in (str(tmp_path), "site-packages", "gguf", "is_local", "_name_or_path"):
            assert word.encode() not in written, (path.name, word)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["architectures"] == [type(model.module).__name__] and "quantization_config" not in config


def test_minilm_embeds_as_transformers_does(minilm):
    model = models.load(minilm)
    assert model.kind == "encoder" and model.tied == {}
    models.materialize(model)
    peer = transformers.AutoModel.from_pretrained(minilm)
    batch = model.tokenizer()(["A man plays a guitar.", "Rain."], padding=True, return_tensors="pt")
    with torch.no_grad():
        got, want = model.module(**batch), peer(**batch)
    assert torch.equal(got.last_hidden_state, want.last_hidden_state)
    assert torch.equal(got.pooler_output, want.pooler_output)

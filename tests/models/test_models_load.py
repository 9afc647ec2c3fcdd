"""What ``load`` accepts, and what it says about what it does not."""

from __future__ import annotations

import json
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import tiny_module

from netweight import models
from netweight.errors import ModelError


def rewrite_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def to_pickle(folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def test_shards_are_read_through_their_index(saved):
    module, folder = saved("llama")
    module.save_pretrained(folder, max_shard_size="20KB")
    (folder / "model.safetensors").unlink(missing_ok=True)
    model = models.load(folder)
    assert len(model.weights.files) > 1
    models.materialize(model)
    assert torch.equal(model.module.model.layers[2].mlp.up_proj.weight, module.model.layers[2].mlp.up_proj.weight)
    assert len(model.sha256) == 64


def test_a_missing_shard_is_named(saved):
    module, folder = saved("llama")
    module.save_pretrained(folder, max_shard_size="20KB")
    (folder / "model.safetensors").unlink(missing_ok=True)
    lost = sorted(folder.glob("model-*.safetensors"))[1]
    lost.unlink()
    with pytest.raises(ModelError, match=f"names {lost.name}, which is not in"):
        models.load(folder)


def test_a_single_safetensors_file_uses_the_config_beside_it(saved):
    _, folder = saved("gpt2")
    assert models.load(folder / "model.safetensors").family.name == "gpt2"


def test_a_base_checkpoint_fills_the_model_with_a_head(saved, tmp_path):
    """Published GPT-2 checkpoints name their tensors without the base model's prefix."""
    module, folder = saved("gpt2")
    tensors = {k.removeprefix("transformer."): v.clone() for k, v in module.transformer.state_dict().items()}
    save_file(tensors, folder / "model.safetensors")
    model = models.load(folder)
    models.materialize(model)
    assert torch.equal(model.module.transformer.h[0].ln_1.weight, module.transformer.h[0].ln_1.weight)


def test_old_names_of_bert_norms_are_understood(saved):
    module, folder = saved("bert")
    tensors = load_file(folder / "model.safetensors")
    renamed = {
        k.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): v
        for k, v in tensors.items()
    }
    save_file(renamed, folder / "model.safetensors")
    model = models.load(folder)
    models.materialize(model)
    assert torch.equal(model.module.embeddings.LayerNorm.weight, module.embeddings.LayerNorm.weight)


def test_an_encoder_without_a_pooler_is_loaded_without_one(saved):
    _, folder = saved("bert")
    tensors = {k: v for k, v in load_file(folder / "model.safetensors").items() if not k.startswith("pooler")}
    save_file(tensors, folder / "model.safetensors")
    assert models.load(folder).module.pooler is None


def test_a_pickle_is_refused_and_never_opened(saved):
    """The pickle would write a file if it were opened, even by a careful reader that only peeks."""
    _, folder = saved("llama")
    (folder / "model.safetensors").unlink()
    trap = folder / "opened"

    class Trap:
        def __reduce__(self):
            return (open, (str(trap), "w"))

    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ModelError, match="is a pickle.*trust_pickle=True"):
        models.load(folder)
    with pytest.raises(ModelError, match="is a pickle"):
        models.load(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="holds more than tensors or is damaged"):
        models.load(folder, trust_pickle=True)  # trusted or not, code in it is not run
    assert not trap.exists()


def test_a_trusted_pickle_gives_the_same_weights(saved):
    module, folder = saved("llama")
    to_pickle(folder)
    with pytest.raises(ModelError, match="is a pickle"):
        models.load(folder)
    model = models.load(folder, trust_pickle=True)
    models.materialize(model)
    assert torch.equal(model.module.model.norm.weight, module.model.norm.weight)


def test_a_pickle_under_another_name_is_recognised(saved):
    _, folder = saved("llama")
    to_pickle(folder)
    (folder / "pytorch_model.bin").rename(folder / "model.safetensors")
    with pytest.raises(ModelError, match="is a pickle, not safetensors"):
        models.load(folder)


@pytest.mark.parametrize("keep", [5, 200, -1])
def test_a_truncated_safetensors_file_is_named(saved, keep):
    _, folder = saved("llama")
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ModelError, match="not a whole safetensors file.*fetch it again"):
        models.load(folder)


def test_a_file_cut_after_loading_is_noticed_when_read(saved):
    _, folder = saved("llama", tied=False)
    model = models.load(folder)
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModelError, match="is truncated"):
        models.materialize(model)


def test_a_header_of_640_bytes_is_not_taken_for_a_pickle(tmp_path):
    from netweight.models._weights import is_pickle

    path = tmp_path / "x.safetensors"
    path.write_bytes((640).to_bytes(8, "little") + b'{"a":')
    assert not is_pickle(path)


def test_missing_tensors_are_named(saved):
    _, folder = saved("llama")
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ModelError, match=r"lacks model\.layers\.1\.mlp\.up_proj\.weight \(1 tensors missing\)"):
        models.load(folder)


def test_a_wrong_shape_is_named(saved):
    _, folder = saved("llama")
    rewrite_config(folder, intermediate_size=56)
    with pytest.raises(ModelError, match=r"has shape \(48, 32\), the LlamaForCausalLM needs \(56, 32\)"):
        models.load(folder)


def test_a_missing_config_is_said(saved):
    _, folder = saved("llama")
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match="no config.json in"):
        models.load(folder)


def test_a_config_of_an_unknown_model_is_said(saved):
    _, folder = saved("llama")
    rewrite_config(folder, model_type="frobnicator")
    with pytest.raises(ModelError, match="does not describe a model transformers knows"):
        models.load(folder)


def test_an_already_compressed_model_is_refused(saved):
    _, folder = saved("llama")
    rewrite_config(folder, quantization_config={"quant_method": "gptq", "bits": 4})
    with pytest.raises(ModelError, match="already compressed.*'gptq'"):
        models.load(folder)


def test_missing_weights_and_files_are_said(saved, tmp_path):
    _, folder = saved("llama")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="no weights in"):
        models.load(folder)
    with pytest.raises(ModelError, match="no such file or folder"):
        models.load(tmp_path / "absent" / "model")
    with pytest.raises(ModelError, match="no such file or folder"):
        models.load("absent.gguf")
    (tmp_path / "model.onnx").write_bytes(b"x" * 32)
    with pytest.raises(ModelError, match="not a model file known here"):
        models.load(tmp_path / "model.onnx")


def test_a_missing_tokenizer_is_an_error_only_when_it_is_wanted(saved):
    _, folder = saved("llama")
    model = models.load(folder)
    with pytest.raises(ModelError, match="has no tokenizer in .*tokenizer.json"):
        model.tokenizer()


def test_a_damaged_tokenizer_is_said(saved):
    _, folder = saved("llama")
    (folder / "tokenizer.json").write_text("{")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    with pytest.raises(ModelError, match="cannot read the tokenizer"):
        models.load(folder).tokenizer()


def test_a_live_module_brings_its_own_tokenizer():
    tokenizer = object()
    assert models.load(tiny_module("llama"), tokenizer=tokenizer).tokenizer() is tokenizer


def test_a_hub_name_is_fetched_without_pickles(saved, monkeypatch, tmp_path):
    import huggingface_hub

    _, folder = saved("llama")
    asked = {}

    def snapshot(name, allow_patterns):
        asked.update(name=name, patterns=allow_patterns)
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    monkeypatch.chdir(tmp_path)
    model = models.load("somebody/some-model")
    assert (model.name, model.source, model.family.name) == ("somebody/some-model", "somebody/some-model", "llama")
    assert asked["name"] == "somebody/some-model" and not any("bin" in pattern for pattern in asked["patterns"])


def test_a_hub_that_cannot_be_reached_is_said(monkeypatch, tmp_path):
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    def snapshot(name, allow_patterns):
        raise LocalEntryNotFoundError("offline")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="no file or folder here, and the hub did not give it: offline"):
        models.load("somebody/some-model")

"""GGUF files: the header against the gguf package's reader, the weights against transformers' own loader."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter
from gguf.quants import quantize
from tiny_models import tiny_module

from netweight import models
from netweight.errors import ModelError
from netweight.models import _gguf

NAMES = {hf: name for name, hf in models.family_of("llama").gguf.tensors.items()}
Q = GGMLQuantizationType


def interleave(weight_OI, heads):
    """Rows of two halves per head to adjacent pairs, as llama.cpp stores them."""
    rows, columns = weight_OI.shape
    return weight_OI.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def write_gguf(path, module, kind=Q.Q4_1, *, architecture="llama", drop=(), extra=()):
    """A tiny Llama as a GGUF file whose matrices are stored as ``kind``."""
    config, writer = module.config, GGUFWriter(path, architecture)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(8)
    writer.add_rope_freq_base(5e5)
    writer.add_vocab_size(config.vocab_size)
    writer.add_string("general.name", "tiny")
    writer.add_array("some.words", ["one", "two", "three"])
    writer.add_array("some.numbers", [1, 2, 3, 4])
    for name, tensor in module.state_dict().items():
        if (name == "lm_head.weight" and config.tie_word_embeddings) or name in drop:
            continue
        parts = name.split(".")
        number = parts[2] if parts[1] == "layers" else ""
        generic = ".".join(p if i != 2 or not number else "{n}" for i, p in enumerate(parts[:-1]))
        values = tensor.numpy()
        if parts[-2] in ("q_proj", "k_proj"):
            heads = config.num_attention_heads if parts[-2] == "q_proj" else config.num_key_value_heads
            values = interleave(values, heads)
        stored = Q.F32 if values.ndim == 1 else kind
        data = values if stored == Q.F32 else quantize(values, stored)
        writer.add_tensor(NAMES[generic].replace("{n}", number) + ".weight", data, raw_dtype=stored)
    for name in extra:
        writer.add_tensor(name, np.ones(4, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture
def tiny_gguf(tmp_path):
    def make(kind=Q.Q4_1, **options):
        module = tiny_module("llama", kv_heads=2, tied=options.pop("tied", True))
        module.config.intermediate_size = 64
        module = transformers.LlamaForCausalLM(module.config).eval()  # rows of 32: one whole quantization block
        path = tmp_path / "tiny.gguf"
        write_gguf(path, module, kind, **options)
        return module, path

    return make


def test_the_header_equals_the_gguf_packages_reading(tiny_gguf):
    _, path = tiny_gguf()
    header, reader = _gguf.read_header(path), GGUFReader(path)
    assert [t.name for t in reader.tensors] == list(header.tensors)
    for tensor in reader.tensors:
        entry = header.tensors[tensor.name]
        assert entry.shape == tuple(int(n) for n in reversed(tensor.shape))
        assert (entry.stored_as, entry.offset, entry.nbytes) == (
            tensor.tensor_type.name,
            tensor.data_offset,
            tensor.n_bytes,
        )
    for key, value in header.metadata.items():
        want = reader.fields[key].contents()
        assert value == (len(want) if isinstance(want, list) else want), key


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", [Q.F32, Q.F16, Q.BF16, Q.Q4_0, Q.Q4_1, Q.Q5_0, Q.Q8_0])
def test_weights_equal_transformers_own_loader_bit_for_bit(tiny_gguf, kind, tied):
    _, path = tiny_gguf(kind, tied=tied)
    model = models.load(path)
    models.materialize(model)
    peer = transformers.AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    want, got = peer.state_dict(), model.module.state_dict()
    assert set(want) == set(got)
    for name in want:
        assert torch.equal(want[name], got[name]), name
    assert model.weights.stored_as("model.layers.0.mlp.up_proj.weight") == kind.name
    assert model.tied == ({"lm_head.weight": "model.embed_tokens.weight"} if tied else {})


def test_rotary_pairs_come_back_in_transformers_order(tiny_gguf):
    module, path = tiny_gguf(Q.F32)
    model = models.load(path)
    models.materialize(model)
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, model.module.state_dict()[name]), name


def test_the_config_equals_transformers_reading(tiny_gguf):
    _, path = tiny_gguf()
    ours = models.load(path).config.to_dict()
    theirs = transformers.AutoConfig.from_pretrained(path.parent, gguf_file=path.name).to_dict()
    for key in ("architectures", "dtype", "_model_name_or_path", "_name_or_path"):  # "dtype": what we were asked for
        ours.pop(key, None), theirs.pop(key, None)
    assert ours == theirs
    assert ours["rope_parameters"]["rope_theta"] == 5e5


def test_a_folder_with_one_gguf_is_that_file(tiny_gguf):
    _, path = tiny_gguf()
    assert models.load(path.parent).weights.files == (path,)
    (path.parent / "second.gguf").write_bytes(path.read_bytes())
    with pytest.raises(ModelError, match="holds 2 GGUF files; name one: second.gguf, tiny.gguf"):
        models.load(path.parent)


@pytest.mark.parametrize("fraction", [0.0005, 0.01, 0.1, 0.6, 0.999])
def test_a_truncated_file_is_named(tiny_gguf, fraction):
    _, path = tiny_gguf()
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * fraction)])
    with pytest.raises(ModelError, match="truncated.*fetch it again|not a GGUF file"):
        models.load(path)


def test_other_architectures_and_versions_are_refused(tiny_gguf):
    _, path = tiny_gguf()
    data = path.read_bytes()
    path.write_bytes(data[:4] + (1).to_bytes(4, "little") + data[8:])
    with pytest.raises(ModelError, match="GGUF version 1; 2 and 3 are read"):
        models.load(path)
    path.write_bytes(data.replace(b"llama", b"lamma"))
    with pytest.raises(ModelError, match="architecture 'lamma' is not read here; did you mean 'llama'"):
        models.load(path)


def test_a_tensor_without_a_place_is_an_error(tiny_gguf):
    _, path = tiny_gguf(extra=("blk.0.attn_sinks.weight",))
    with pytest.raises(ModelError, match="holds blk.0.attn_sinks.weight, which has no place"):
        models.load(path)
    _, path = tiny_gguf(extra=("rope_freqs.weight",))
    with pytest.raises(ModelError, match="rotary frequencies"):
        models.load(path)


def test_a_missing_tensor_is_named(tiny_gguf):
    _, path = tiny_gguf(drop=("model.layers.1.mlp.down_proj.weight",))
    with pytest.raises(ModelError, match=r"lacks model\.layers\.1\.mlp\.down_proj\.weight"):
        models.load(path)


def test_a_gguf_without_a_vocabulary_has_no_tokenizer(tiny_gguf):
    _, path = tiny_gguf()
    with pytest.raises(ModelError, match="has no tokenizer"):
        models.load(path).tokenizer()


def test_smollm2_streams_from_its_file_and_knows_english(smollm2_model):
    """Every block goes through memory once; a wrong permutation or scale anywhere would show in the loss."""
    model = smollm2_model
    stored = [model.weights.stored_as(name) for name in model.weights.names()]
    assert (stored.count("Q4_1"), stored.count("Q8_0"), stored.count("F32")) == (210, 1, 61)
    assert model.kind == "causal-lm" and model.tied == {"lm_head.weight": "model.embed_tokens.weight"}
    assert len(models.layers(model)) == 212
    text = "The capital of France is Paris. The capital of Germany is Berlin. The capital of Italy is Rome."
    ids = torch.tensor([model.tokenizer()(text)["input_ids"]])
    (item,) = models.capture_block_inputs(model, [{"input_ids": ids}])
    hidden = item.hidden
    for index, block in enumerate(models.blocks(model)):
        models.materialize(model, block)
        hidden = models.run_block(model.module.get_submodule(block), *item.call(index, hidden))[0]
        models.release(model, block)
    logits = models.run_tail(model, hidden)[0, :-1]
    loss = torch.nn.functional.cross_entropy(logits, ids[0, 1:])
    assert loss < 2.0  # nats per token; a uniform guess costs ln 49152 = 10.8
    models.release(model)

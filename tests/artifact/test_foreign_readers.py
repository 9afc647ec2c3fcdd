"""transformers reads our folder by itself: to the same weights where its layout can say the format, else not at all."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
import transformers

import tiny
from netweight import artifact, formats, runtime

# What transformers 5.23 with compressed-tensors 0.20 does while it decodes: symmetric integers, E4M3 and MX exactly;
# asymmetric integers in float16, NVFP4 in bfloat16: one rounding each, of half a unit in the last of 11 and of 8 bits.
FLOAT16, BFLOAT16 = 2**-11, 2**-8
EXACT = (
    *("int2-sym-g32", "int3-sym-g64", "int4-sym-g32", "int8-sym-g64", "int3-sym-channel", "int8-sym-channel"),
    *("mxfp4", "mxfp6-e2m3", "mxfp8-e4m3", "e4m3-channel", "e4m3-g64", "e4m3-tensor"),
)
ROUNDED = (
    *("int2-g32", "int3-g64", "int4-g32", "int5-g32", "int8-g64", "int2-channel", "int4-channel", "int8-channel"),
    "nvfp4",
)
REFUSED = ("nf4", "ternary-g64", "nvfp4-2d", "int4-g32-fz", "int4-g48-ragged", "int4-tensor", "mxfp6-e3m2", "e5m2-g32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.saved(tiny.llama(kv_heads=2), tmp_path_factory.mktemp("model"))


def logits(module):
    with torch.no_grad():
        return module(**tiny.token_batches(1)[0]).logits


@pytest.mark.parametrize("name", EXACT)
def test_transformers_decodes_the_same_weights_to_the_last_bit(name, folder, tmp_path):
    made = tiny.compress(folder, tmp_path / "out", tiny.step("rtn", name), calibration=None)
    foreign = tiny.foreign_load(tmp_path / "out")
    assert torch.equal(
        logits(foreign), logits(runtime.load(made, kernels="off").module)
    )  # and packed layers decode at the first run
    for layer, weight_OI in tiny.decoded(made).items():
        assert torch.equal(foreign.get_submodule(layer).weight, weight_OI), layer


@pytest.mark.parametrize("name", ROUNDED)
def test_transformers_decodes_the_same_weights_with_one_rounding(name, folder, tmp_path):
    made = tiny.compress(folder, tmp_path / "out", tiny.step("rtn", name), calibration=None)
    foreign, ours = tiny.foreign_load(tmp_path / "out"), runtime.load(made, kernels="off").module
    unit = BFLOAT16 if name == "nvfp4" else FLOAT16
    for layer, weight_OI in tiny.decoded(made).items():
        change = (foreign.get_submodule(layer).weight - weight_OI).abs()
        assert bool((change <= unit * weight_OI.abs()).all()), layer
    # logits are a smooth function of the weights: they move by what the rounded weights themselves move them
    with torch.no_grad():
        for layer in made.manifest.layers:
            ours.get_submodule(layer).weight.copy_(foreign.get_submodule(layer).weight)
    assert torch.equal(logits(foreign), logits(ours))


def test_rows_that_do_not_fill_whole_words_of_zero_points_are_read(tmp_path):
    folder = tiny.saved(tiny.llama(blocks=1, inner=72), tmp_path / "model")
    made = tiny.compress(folder, tmp_path / "out", tiny.step("rtn", "int3-channel"), calibration=None)
    foreign = tiny.foreign_load(tmp_path / "out")
    for layer, weight_OI in tiny.decoded(made).items():
        change = (foreign.get_submodule(layer).weight - weight_OI).abs()
        assert bool((change <= FLOAT16 * weight_OI.abs()).all()), layer


def test_a_mix_of_symmetric_integers_and_e4m3_is_read_exactly(folder, tmp_path):
    steps = [tiny.step("rtn", "int4-sym-g32"), tiny.step("rtn", "e4m3-channel", only=["*.down_proj"])]
    made = tiny.compress(folder, tmp_path / "out", *steps, calibration=None)
    config = json.loads((tmp_path / "out" / "config.json").read_text())["quantization_config"]
    assert config["format"] == "mixed-precision"
    assert torch.equal(logits(tiny.foreign_load(tmp_path / "out")), logits(runtime.load(made, kernels="off").module))


@pytest.mark.parametrize("pair", [("int4-g32", "int8-sym-g32"), ("nvfp4", "mxfp8-e4m3"), ("int3-g64", "int8-g64")])
def test_a_mix_that_transformers_would_decode_by_one_scheme_for_all_is_refused_by_it(pair, folder, tmp_path):
    steps = [tiny.step("rtn", pair[0]), tiny.step("rtn", pair[1], only=["*.down_proj"])]
    made = tiny.compress(folder, tmp_path / "out", *steps, calibration=None)
    with pytest.raises(ValueError, match="quant_method"):
        tiny.foreign_load(tmp_path / "out")
    assert {row.format for row in made.ledger.quantized()} == set(pair)
    assert bool(torch.isfinite(logits(runtime.load(made, kernels="off").module)).all())


@pytest.mark.parametrize("name", REFUSED)
def test_a_format_that_the_layout_cannot_say_is_refused_and_not_loaded_at_random(name, folder, tmp_path):
    made = tiny.compress(folder, tmp_path / "out", tiny.step("rtn", name), calibration=None)
    with pytest.raises(ValueError, match="quant_method"):
        tiny.foreign_load(tmp_path / "out")
    module = runtime.load(made, kernels="off").module
    for layer, weight_OI in tiny.decoded(made).items():
        assert torch.equal(module.get_submodule(layer).weight, weight_OI)


def test_a_quantized_embedding_is_refused_by_transformers(folder, tmp_path):
    tiny.compress(folder, tmp_path / "out", tiny.step("rtn", "int4-sym-g32", only=["*embed_tokens"]), calibration=None)
    with pytest.raises(ValueError, match="quant_method"):
        tiny.foreign_load(tmp_path / "out")


def test_an_encoder_is_read_exactly(tmp_path):
    folder = tiny.saved(tiny.bert(), tmp_path / "model")
    made = tiny.compress(folder, tmp_path / "out", tiny.step("rtn", "int4-sym-g32"), calibration=None)
    foreign = tiny.foreign_load(tmp_path / "out", transformers.AutoModel)
    ids = tiny.token_batches(1)[0]
    with torch.no_grad():
        assert torch.equal(
            foreign(**ids).last_hidden_state, runtime.load(made, kernels="off").module(**ids).last_hidden_state
        )


def test_folded_norms_come_along(folder, tmp_path):
    made = tiny.compress(folder, tmp_path / "out", tiny.step("awq", "int4-sym-g32"))
    assert torch.equal(logits(tiny.foreign_load(tmp_path / "out")), logits(runtime.load(made, kernels="off").module))


def test_shards_with_an_index_are_read(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("netweight.artifact._write.SHARD_BYTES", 20_000)
    made = tiny.compress(folder, tmp_path / "out", tiny.step("rtn", "int4-sym-g32"), calibration=None)
    assert len(list((tmp_path / "out").glob("model-*-of-*.safetensors"))) > 1
    assert torch.equal(logits(tiny.foreign_load(tmp_path / "out")), logits(runtime.load(made, kernels="off").module))


def test_reading_with_transformers_needs_no_netweight(folder, tmp_path):
    tiny.compress(folder, tmp_path / "out", tiny.step("rtn", "int3-g64"), calibration=None)
    code = (
        "import sys, transformers; sys.modules['netweight'] = None; "
        f"m = transformers.AutoModelForCausalLM.from_pretrained({str(tmp_path / 'out')!r}); "
        "print(float(m.model.layers[0].mlp.up_proj.weight.abs().sum()) > 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "True", done.stderr[-2000:]


def test_only_formats_that_are_decoded_as_stored_share_a_file():
    sym, asym, nvfp4 = (formats.get(name) for name in ("int4-sym-g32", "int4-g32", "nvfp4"))
    assert artifact.layout_for([]) == "netweight"
    assert [artifact.layout_for([f]) for f in (sym, asym, nvfp4)] == ["compressed-tensors"] * 3
    assert artifact.layout_for([sym, formats.get("e4m3-g64")]) == "compressed-tensors"
    assert artifact.layout_for([sym, asym]) == artifact.layout_for([sym, nvfp4]) == "netweight"

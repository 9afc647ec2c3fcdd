"""The whole job with a recipe that rotates first: what the artifact holds, who reads it, what the ledger says, what is refused."""

from __future__ import annotations

import json

import pytest
import torch
import transformers

import netweight
import tiny
from netweight import models, runtime
from netweight import recipe as recipes
from netweight.compress import rotated
from netweight.errors import PartialError, SettingsError

ROTATE, UNTIE = tiny.step("hadamard"), tiny.step("hadamard", untie=True)
RTN = tiny.step("rtn", "int4-sym-g32")
HEAD_BYTES = tiny.VOCABULARY * tiny.HIDDEN * 4
PARTS = 4  # stem, two blocks, tail


def outputs(module, batch=None):
    with torch.no_grad():
        found = module(**(batch or tiny.token_batches(1, rows=4, length=32, seed=9)[0]))
    return (found.logits if "logits" in found else found.last_hidden_state).float()


def error(artifact, module) -> float:
    """Of the outputs, relative to the original's."""
    want, found = outputs(module), outputs(runtime.load(artifact, kernels="off").module)
    return float((found - want).norm() / want.norm())


def standing_out(source: str, factor: float):
    """A llama with three channels in every block that stand out in the weights, and a function that does not depend on them.

    Args:
      source: "norm" makes channels of the norms small and their readers' columns large, "v_proj" values against what reads them.
    """
    config = transformers.LlamaConfig(
        hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, vocab_size=tiny.VOCABULARY,
        max_position_embeddings=64, tie_word_embeddings=False, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(3)
    module = transformers.LlamaForCausalLM(config).eval()
    for name, parameter in module.named_parameters():
        if "norm" not in name:
            torch.nn.init.normal_(parameter, std=0.12, generator=generator)
    model = models.load(module)
    for block in models.blocks(model):
        for feed in models.feeds(model, block):
            if source in feed.source:
                scale = torch.ones(64)
                scale[torch.randperm(64, generator=generator)[:3]] = factor
                models.fold(module, feed, scale)
    return module


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.saved(tiny.llama(kv_heads=2), tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def untied(folder, tmp_path_factory):
    return tiny.compress(folder, tmp_path_factory.mktemp("untied") / "out", UNTIE, RTN)


# what it is for


@pytest.mark.parametrize("format", ["int4-sym-g32", "int3-g64"])
def test_rounding_a_rotated_model_errs_less_where_channels_stand_out(format, tmp_path):
    rtn, options = tiny.step("rtn", format), {"calibration": None}
    module = standing_out("norm", 24)
    alone = error(tiny.compress(module, tmp_path / "alone", rtn, **options), module)
    assert error(tiny.compress(module, tmp_path / "rotated", ROTATE, rtn, **options), module) < 0.6 * alone
    module, heads = standing_out("v_proj", 8), tiny.step("hadamard", residual=False)
    alone = error(tiny.compress(module, tmp_path / "alone-too", rtn, **options), module)
    assert error(tiny.compress(module, tmp_path / "heads", heads, rtn, **options), module) < 0.92 * alone


@pytest.mark.parametrize("make", [tiny.llama, tiny.gpt2, tiny.bert])
def test_with_eight_bits_next_to_nothing_is_lost(make, tmp_path):
    module = make()
    exact, plain = (
        error(tiny.compress(module, tmp_path / name, *steps, tiny.step("rtn", "int8-sym-g32")), module)
        for name, steps in (("rotated", [ROTATE]), ("plain", []))
    )
    assert exact < max(1.5 * plain, 1e-3) < 0.2  # the tiny models amplify what rounding does


def test_methods_that_look_at_inputs_and_train_work_on_the_rotated_model(tmp_path):
    module, seen = standing_out("norm", 24), {"calibration": tiny.token_batches(16, length=32)}
    steps = [tiny.step("awq", "int3-g32"), tiny.step("gptq", "int3-g32")]
    gptq = tiny.compress(module, tmp_path / "gptq", ROTATE, *steps, **seen)
    rtn = tiny.compress(module, tmp_path / "rtn", ROTATE, tiny.step("rtn", "int3-g32"))
    assert error(gptq, module) < error(rtn, module)
    tune = tiny.step("e2e_scales", epochs=4, norms=True)
    block = tiny.step("omniquant", "int3-g32", epochs=2)
    tuned = tiny.compress(module, tmp_path / "tuned", ROTATE, block, tune, **seen)
    assert error(tuned, module) < error(rtn, module)
    row = next(row for row in tuned.ledger if row.module.endswith("q_proj"))
    assert row.steps == ("hadamard", "omniquant", "e2e_scales")


# the artifact


def test_an_untied_artifact_says_so_and_is_read_by_transformers(folder, untied):
    config = json.loads((untied.path / "config.json").read_text())
    assert config["tie_word_embeddings"] is False
    assert {"lm_head.weight", "model.embed_tokens.weight"} <= set(untied.plain_names())
    assert untied.manifest.tied == {}
    foreign = tiny.foreign_load(untied.path)
    assert foreign.lm_head.weight is not foreign.model.embed_tokens.weight
    assert torch.equal(outputs(foreign), outputs(runtime.load(untied, kernels="off").module))


def test_an_artifact_with_rotated_heads_is_read_by_transformers(tmp_path):
    made = tiny.compress(tiny.saved(tiny.bert(), tmp_path / "model"), tmp_path / "out", ROTATE, RTN, calibration=None)
    foreign = tiny.foreign_load(tmp_path / "out", transformers.AutoModel)
    assert torch.equal(outputs(foreign), outputs(runtime.load(made, kernels="off").module))


def test_the_artifact_holds_the_rotated_weights_rounded(folder, untied):
    recipe = recipes.load(tiny.recipe(UNTIE, RTN))
    source = rotated(models.load(folder), recipe).model
    models.materialize(source, "")
    from netweight import formats

    for layer in untied.manifest.layers:
        want = formats.quantize(tiny.matrix(source.module, layer), formats.get("int4-sym-g32"))
        assert torch.equal(untied.qtensor(layer).codes, want.codes), layer
    for name in untied.plain_names():
        assert torch.equal(untied.tensor(name), source.module.state_dict()[name]), name


def test_the_source_it_names_is_the_original(folder, untied):
    assert untied.manifest.model["sha256"] == models.load(folder).sha256
    assert untied.manifest.bytes["before"] == sum(p.nbytes for p in tiny.llama(kv_heads=2).parameters())


def test_it_is_verified_evaluated_and_run_like_any_other(tiny_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NETWEIGHT_DATA", raising=False)
    netweight.compress(tiny_folder, tiny.recipe(UNTIE, tiny.step("rtn", "int8-sym-g32")), out="small", threads=1)
    claims = netweight.evaluate("small", against=str(tiny_folder), preset="quick", threads=1)
    kl = next(claim.value for claim in claims if claim.metric == "kl_divergence")
    assert kl < 0.01
    assert netweight.verify("small", threads=1).failures() == ()
    assert len("".join(netweight.run("small", prompt="an object", max_tokens=5)))


def test_the_native_loop_decodes_an_untied_artifact(untied):
    loaded = runtime.load(untied, kernels="exact")
    native, ids = runtime.NativeDecoder(loaded.model), [5, 9, 11, 40]
    found = native.forward((native.session(),), (ids,))
    with torch.no_grad():
        want = runtime.load(untied, kernels="off").module(torch.tensor([ids])).logits[0, -1]
    change = torch.as_tensor(found).reshape(-1, tiny.VOCABULARY)[-1] - want
    assert float(change.norm() / want.norm()) < 1e-2  # it keeps keys and values in 16 bits


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_what_stays_unrounded_takes_the_bytes_it_took(dtype, tmp_path):
    folder = tiny.saved(tiny.llama(tied=False).to(dtype), tmp_path / "model")
    made = tiny.compress(folder, tmp_path / "out", ROTATE, tiny.step("rtn", "int4-g32", skip=["*.1.*"]))
    plain = tiny.compress(folder, tmp_path / "plain", tiny.step("rtn", "int4-g32", skip=["*.1.*"]))
    assert {made.tensor(name).dtype for name in made.plain_names()} == {dtype}
    assert "model.layers.1.mlp.up_proj.weight" in made.plain_names()
    assert made.manifest.bytes == plain.manifest.bytes


def test_a_head_of_its_own_can_be_rounded_like_any_layer(folder, tmp_path):
    made = tiny.compress(
        folder, tmp_path / "out", UNTIE, RTN, tiny.step("gptq", "int8-g32", only=["lm_head"]), tiny.step("rtn", "int8-g32", only=["*embed_tokens"])
    )  # fmt: skip
    rows = {row.module: row for row in made.ledger}
    assert rows["lm_head"].steps == ("hadamard", "gptq") and rows["model.embed_tokens"].steps == ("hadamard", "rtn")
    assert rows["lm_head"].samples > 0


# the ledger, before and after


def test_the_ledger_names_rotation_first_and_only_where_there_was_one(folder, untied, tmp_path):
    assert all(row.steps[0] == "hadamard" for row in untied.ledger)  # the stream reaches every layer
    left = {row.module: row for row in untied.ledger.left()}
    assert left.keys() == {"model.embed_tokens", "lm_head"} and left["lm_head"].steps == ("hadamard",)
    assert (left["lm_head"].bytes_before, left["lm_head"].bytes_after) == (0, HEAD_BYTES)
    assert all(row.steps == ("hadamard", "rtn") and row.weight_error for row in untied.ledger.quantized())
    heads = tiny.compress(folder, tmp_path / "out", ROTATE, RTN)
    named = {row.module.rpartition(".")[2] for row in heads.ledger if "hadamard" in row.steps}
    assert named == {"v_proj", "o_proj"}
    first = heads.ledger.rows[0]
    assert first.module == "model.embed_tokens" and len(first.notes) == 1
    assert (
        "residual stream is not rotated" in first.notes[0]
        and f"untie = true: a head of its own takes {HEAD_BYTES:,} bytes" in first.notes[0]
    )
    assert not any(row.notes for row in heads.ledger.rows[1:])


def test_a_note_stays_where_the_layer_is_rounded(folder, tmp_path):
    made = tiny.compress(folder, tmp_path / "out", ROTATE, RTN, tiny.step("rtn", "int8-g32", only=["*embed_tokens"]))
    assert made.ledger.rows[0].action == "quantized" and "is not rotated" in made.ledger.rows[0].notes[0]


@pytest.mark.parametrize("first", [ROTATE, UNTIE])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_dry_run_foresees_every_row_and_size(first, dtype, tmp_path):
    folder = tiny.saved(tiny.llama(kv_heads=2).to(dtype), tmp_path / "model")
    expected = tiny.compress(folder, tmp_path / "out", first, RTN, dry_run=True)
    assert not (tmp_path / "out").exists()
    made = tiny.compress(folder, tmp_path / "out", first, RTN)

    def fate(row):
        return row.module, row.steps, row.format, row.bytes_before, row.bytes_after, row.tied_to, row.notes

    assert [fate(row) for row in expected.ledger] == [fate(row) for row in made.ledger]
    stored = sum(t.nbytes for t in (made.tensor(name) for name in made.plain_names()))
    assert expected.bytes_after == stored + sum(row.bytes_after for row in made.ledger.quantized())
    plain = tiny.compress(folder, tmp_path / "plain", RTN, dry_run=True)
    more = HEAD_BYTES // 4 * dtype.itemsize if first is UNTIE else 0
    assert (expected.bytes_before, expected.bytes_after) == (plain.bytes_before, plain.bytes_after + more)


# the same bytes


class _Stopped(Exception):
    pass


STEPS = (UNTIE, tiny.step("smoothquant"), tiny.step("gptq", "int3-g64"))


@pytest.fixture(scope="module")
def reference(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("reference") / "out"
    tiny.compress(folder, out, *STEPS)
    return tiny.hashed_files(out)


@pytest.mark.parametrize("threads, memory", [(2, "lean"), (2, "ample")])
def test_the_bytes_depend_neither_on_threads_nor_on_how_passes_are_made(threads, memory, folder, reference, tmp_path):
    tiny.compress(folder, tmp_path / "out", *STEPS, threads=threads, memory=memory)
    assert tiny.hashed_files(tmp_path / "out") == reference


@pytest.mark.parametrize("calls", [1, 3, PARTS + 2])
def test_an_interrupted_run_ends_in_the_same_bytes(calls, folder, reference, tmp_path):
    left = [calls]

    def progress(task: str, done: int, total: int, note: str = "") -> None:
        left[0] -= 1
        if left[0] < 0:
            raise _Stopped

    out = tmp_path / "out"
    with pytest.raises(_Stopped):
        tiny.compress(folder, out, *STEPS, progress=progress)
    assert not out.exists() and (tmp_path / "out.partial").exists()
    tiny.compress(folder, out, *STEPS)
    assert tiny.hashed_files(out) == reference


def test_another_seed_gives_other_weights(folder, reference, tmp_path):
    options = {"calibration": tiny.token_batches(), "threads": 1}
    netweight.compress(folder, tiny.recipe(*STEPS, seed=1), out=tmp_path / "out", **options)
    other = tiny.hashed_files(tmp_path / "out")
    assert other["model.safetensors"] != reference["model.safetensors"]


def test_a_live_model_gives_the_same_artifact_and_stays_as_it_is(folder, untied, tmp_path):
    module = tiny.llama(kv_heads=2)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    made = tiny.compress(module, tmp_path / "out", UNTIE, RTN)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert made.manifest.model["sha256"] == models.load(module).sha256
    assert {n: r.sha256 for n, r in made.manifest.layers.items()} == {
        n: r.sha256 for n, r in untied.manifest.layers.items()
    }


# what cannot be done


def refused(model, *steps, error=SettingsError) -> str:
    with pytest.raises(error) as found:
        tiny.compress(model, "nowhere", *steps, dry_run=True)
    return str(found.value)


def test_a_shared_embedding_is_an_error_that_says_what_untying_costs(folder):
    said = refused(folder, tiny.step("hadamard", residual=True), RTN)
    assert (
        "shares the embedding's weight" in said
        and f"set untie = true (a head of its own takes {HEAD_BYTES:,} bytes)" in said
    )
    assert "untie = true" in refused(folder, tiny.step("hadamard", heads=False), RTN)


def test_the_cost_of_untying_counts_the_type_the_embedding_is_stored_in(tmp_path):
    folder = tiny.saved(tiny.llama().to(torch.bfloat16), tmp_path / "model")
    assert f"takes {HEAD_BYTES // 2:,} bytes" in refused(folder, tiny.step("hadamard", residual=True), RTN)


@pytest.mark.parametrize("make", [tiny.gpt2, tiny.bert])
def test_norms_that_are_no_rms_norms_are_an_error_that_names_the_way_out(make):
    for options in ({"residual": True}, {"residual": True, "untie": True}, {"heads": False}):
        said = refused(make(), tiny.step("hadamard", **options), RTN)
        assert (
            "not read by RMS norms alone" in said and 'set residual = "auto"' in said and "untie = true (" not in said
        )


def test_a_module_of_no_family_cannot_be_rotated():
    said = refused(torch.nn.Sequential(torch.nn.Linear(64, 64)), ROTATE, RTN)
    assert "nothing of Sequential can be rotated" in said and "leave the step out" in said


def test_heads_that_are_not_what_the_config_says_are_an_error():
    bert, llama = tiny.bert(), tiny.llama(tied=False)
    bert.config.num_attention_heads, llama.config.num_attention_heads = 5, 3
    assert "leave the step out" in refused(bert, ROTATE, RTN)
    assert "64 that 5 heads give; set heads = false" in refused(bert, tiny.step("hadamard", residual=False), RTN)
    assert "64 that 3 heads give; set heads = false" in refused(llama, ROTATE, RTN)


@pytest.mark.parametrize(
    "options, said",
    [
        ({"residual": False, "heads": False}, "nothing is left to rotate"),
        ({"residual": False, "untie": True}, "only residual needs it"),
        ({"residual": "always"}, "residual"),
        ({"residuals": True}, "did you mean 'residual'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options, said):
    with pytest.raises(SettingsError, match=said):
        recipes.load(tiny.recipe(tiny.step("hadamard", **options), RTN))


def test_rotation_comes_first_and_once(folder):
    assert "step 2 (hadamard)" in refused(folder, RTN, ROTATE) and "before every other step" in refused(
        folder, RTN, ROTATE
    )
    assert "step 2 (hadamard)" in refused(folder, ROTATE, ROTATE, RTN)


@pytest.mark.parametrize("key, value", [("format", "int4-g32"), ("only", ["*.q_proj"]), ("skip", ["lm_head"])])
def test_rotation_takes_neither_format_nor_patterns(key, value):
    with pytest.raises(SettingsError, match=rf"step 1 \(hadamard\): {key} = .*rotates the whole model"):
        recipes.load(tiny.recipe({"use": "hadamard", key: value}, RTN))


def test_rotation_alone_rounds_nothing_and_is_an_error(folder, tmp_path):
    with pytest.raises(PartialError, match=r"step 1 \(hadamard\): only rotates; add a rounding step"):
        tiny.compress(folder, tmp_path / "out", ROTATE)


def test_a_recipe_with_rotation_is_written_and_read_back():
    recipe = recipes.load(tiny.recipe(tiny.step("hadamard", residual=True, untie=True), RTN))
    table = recipe.to_table()["step"][0]
    assert table == {"use": "hadamard", "residual": True, "heads": True, "untie": True}
    assert recipes.load(tiny.recipe(ROTATE, RTN)).to_table()["step"][0]["residual"] == "auto"

"""The walker against a plain one: the whole model in memory, run anew for every stage, in float64 so that no tie can differ."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import tiny
from netweight import formats, models, registry, runtime
from netweight.compress import Moments
from oracles import gptq as oracle

LLAMA = (
    ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    ("self_attn.o_proj",),
    ("mlp.gate_proj", "mlp.up_proj"),
    ("mlp.down_proj",),
)
GPT2 = (("attn.c_attn",), ("attn.c_proj",), ("mlp.c_fc",), ("mlp.c_proj",))
BERT = (
    ("attention.self.query", "attention.self.key", "attention.self.value"),
    ("attention.output.dense",),
    ("intermediate.dense",),
    ("output.dense",),
)
BLOCKS = {"llama": "model.layers", "gpt2": "transformer.h", "bert": "encoder.layer"}
STAGES = {"llama": LLAMA, "gpt2": GPT2, "bert": BERT}
FEEDS = (
    ("input_layernorm", LLAMA[0]),
    ("post_attention_layernorm", LLAMA[2]),
    ("mlp.up_proj", LLAMA[3]),
    ("self_attn.v_proj", LLAMA[1]),
)


def inputs_of(module: nn.Module, layer: str) -> Tensor:
    """Everything a layer reads while the whole model runs over all batches, as rows."""
    seen: list[Tensor] = []
    handle = module.get_submodule(layer).register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.no_grad():
        for batch in tiny.token_batches():
            module(**batch)
    handle.remove()
    return torch.cat([x.reshape(-1, x.shape[-1]) for x in seen])


def moments_of(x_TI: Tensor) -> Moments:
    return Moments(2 / len(x_TI) * x_TI.T @ x_TI, x_TI.abs().mean(0).float(), x_TI.abs().amax(0), len(x_TI))


def slow_gptq(module: nn.Module, family: str, format_name: str, *, rescale: bool = False) -> dict[str, np.ndarray]:
    """Codes of every layer, by the explicit-inverse oracle. The module is changed."""
    codes: dict[str, np.ndarray] = {}
    for number, _ in enumerate(module.get_submodule(BLOCKS[family])):
        block = f"{BLOCKS[family]}.{number}"
        if rescale:
            _fold_awq(module, block, format_name)
        for stage in STAGES[family]:
            names = [f"{block}.{layer}" for layer in stage]
            hessian = moments_of(inputs_of(module, names[0])).hessian_II.numpy()
            for name in names:
                layer = module.get_submodule(name)
                transposed = type(layer).__name__ == "Conv1D"
                weight_OI = layer.weight.T if transposed else layer.weight
                found = oracle.solve(weight_OI.detach().numpy(), hessian, format_name)
                codes[name] = found.codes_OI
                values = torch.from_numpy(found.values_OI)
                layer.weight.data.copy_(values.T if transposed else values)
    return codes


def _fold_awq(module: nn.Module, block: str, format_name: str) -> None:
    awq = registry.find("netweight.compress", "awq")
    seen = [moments_of(inputs_of(module, f"{block}.{layers[0]}")) for _, layers in FEEDS]
    for (source, layers), stats in zip(FEEDS, seen, strict=True):
        readers = [module.get_submodule(f"{block}.{layer}") for layer in layers]
        weights = {str(n): reader.weight.detach() for n, reader in enumerate(readers)}
        scale_I = awq.rescale(weights, stats, formats.get(format_name), awq.Settings())
        given = module.get_submodule(f"{block}.{source}").weight.data
        given.div_(scale_I if given.dim() == 1 else scale_I[:, None])
        for reader in readers:
            reader.weight.data.mul_(scale_I)


def double(folder) -> models.Model:
    return models.load(folder, dtype=torch.float64)


@pytest.mark.parametrize("memory", ["lean", "ample"])
@pytest.mark.parametrize("family", ["llama", "gpt2", "bert"])
def test_gptq_gives_the_codes_of_a_slow_walk_through_the_whole_model(family, memory, tmp_path):
    module = getattr(tiny, family)()
    folder = tiny.saved(module, tmp_path / "model")
    made = tiny.compress(double(folder), tmp_path / "out", tiny.step("gptq", "int3-g64", range="minmax"), memory=memory)
    want = slow_gptq(module.double(), family, "int3-g64")
    assert set(made.manifest.layers) == set(want)
    for name, codes_OI in want.items():
        assert np.array_equal(made.qtensor(name).codes.numpy(), codes_OI), name


def test_awq_then_gptq_folds_and_gives_the_codes_of_a_slow_walk(tmp_path):
    module = tiny.llama()
    before = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    folder = tiny.saved(module, tmp_path / "model")
    steps = [tiny.step("awq", "int4-g32"), tiny.step("gptq", "int4-g32", range="minmax")]
    made = tiny.compress(double(folder), tmp_path / "out", *steps)
    want = slow_gptq(module.double(), "llama", "int4-g32", rescale=True)
    for name, codes_OI in want.items():
        assert np.array_equal(made.qtensor(name).codes.numpy(), codes_OI), name
    for row in made.ledger.quantized():
        assert row.steps == ("awq", "gptq") and not row.notes
    norms = [f"model.layers.{n}.{source}.weight" for n in (0, 1) for source, _ in FEEDS[:2]]
    folded = [made.tensor(norm) / before[norm] for norm in norms]
    assert sum(float(ratio.max() / ratio.min()) > 1.5 for ratio in folded) >= 2  # or the folds would prove nothing
    for norm in norms:
        torch.testing.assert_close(made.tensor(norm).double(), module.get_parameter(norm).data, rtol=1e-12, atol=0)


def test_channel_scales_alone_change_nothing_that_the_model_computes(tmp_path):
    # int8 per channel is near enough that a wrong fold, by factors of 2 and more, shows
    module = tiny.llama()
    steps = [tiny.step("smoothquant"), tiny.step("rtn", "int8-sym-channel")]
    made = tiny.compress(tiny.saved(module, tmp_path / "model"), tmp_path / "out", *steps)
    ids = tiny.token_batches(1)[0]
    with torch.no_grad():
        want, got = module(**ids).logits, runtime.load(made, kernels="off").module(**ids).logits
    assert float((got - want).norm() / want.norm()) < 0.05
    name = "model.layers.0.input_layernorm.weight"
    assert float((made.tensor(name) / module.get_parameter(name).detach()).std()) > 0.1  # and it was folded


def test_rtn_rounds_every_layer_as_it_came_and_touches_nothing_else(tmp_path):
    module = tiny.llama(tied=False)
    made = tiny.compress(
        tiny.saved(module, tmp_path / "model"), tmp_path / "out", tiny.step("rtn", "int4-g64"), calibration=None
    )
    assert len(made.manifest.layers) == 14
    for name, weight_OI in tiny.decoded(made).items():
        assert torch.equal(weight_OI, formats.quantize(tiny.matrix(module, name), formats.get("int4-g64")).decode())
    for name, parameter in module.named_parameters():
        if name.removesuffix(".weight") not in made.manifest.layers:
            assert torch.equal(made.tensor(name), parameter.data), name


def test_several_formats_in_one_model_go_where_their_patterns_say(tmp_path):
    module = tiny.llama(tied=False)
    made = tiny.compress(
        tiny.saved(module, tmp_path / "model"),
        tmp_path / "out",
        tiny.step("gptq", "int3-g64", skip=["*.0.self_attn.*"]),
        tiny.step("rtn", "int8-sym-channel", only=["lm_head", "*.embed_tokens"]),
        tiny.step("mse_clip", "nvfp4", only=["re:.*1.mlp.down_proj"]),
    )
    found = {row.module: (row.action, row.format, row.steps) for row in made.ledger}
    assert found["model.layers.0.self_attn.q_proj"] == ("left", "", ())
    assert found["model.layers.1.self_attn.q_proj"] == ("quantized", "int3-g64", ("gptq",))
    assert found["model.layers.0.mlp.down_proj"] == ("quantized", "int3-g64", ("gptq",))
    assert found["model.layers.1.mlp.down_proj"] == ("quantized", "nvfp4", ("mse_clip",))
    assert found["lm_head"] == found["model.embed_tokens"] == ("quantized", "int8-sym-channel", ("rtn",))
    left = made.ledger.left()
    assert {row.reason for row in left} == {"no step selects it"} and len(left) == 4
    assert all(row.bytes_after == row.bytes_before for row in left)


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("method", ["rtn", "mse_clip"])
def test_a_tied_head_uses_the_embeddings_quantized_weight(method, live, tmp_path):
    module = tiny.llama(tied=True)
    source = module if live else tiny.saved(module, tmp_path / "model")
    made = tiny.compress(source, tmp_path / "out", tiny.step(method, "int3-g64", only=["*.embed_tokens"]))
    rows = {row.module: row for row in made.ledger}
    assert rows["lm_head"].tied_to == "model.embed_tokens" and rows["lm_head"].bytes_after == 0
    assert (rows["lm_head"].action, rows["lm_head"].format) == ("quantized", "int3-g64")
    with torch.no_grad():
        module.model.embed_tokens.weight.copy_(made.qtensor("model.embed_tokens").decode())
        ids = tiny.token_batches(1)[0]
        assert torch.equal(runtime.load(made, kernels="off").module(**ids).logits, module(**ids).logits)


def test_naming_the_tied_head_quantizes_the_embedding_it_shares(tmp_path):
    folder = tiny.saved(tiny.llama(tied=True), tmp_path / "model")
    made = tiny.compress(folder, tmp_path / "out", tiny.step("rtn", "int8-g64", only=["lm_head"]), calibration=None)
    assert list(made.manifest.layers) == ["model.embed_tokens"]
    assert [row.module for row in made.ledger.quantized()] == ["model.embed_tokens", "lm_head"]


def test_an_untied_head_is_rounded_on_what_the_quantized_blocks_give_it(tmp_path):
    module = tiny.llama(tied=False)
    folder = tiny.saved(module, tmp_path / "model")
    made = tiny.compress(
        double(folder), tmp_path / "out", tiny.step("gptq", "int4-g64", only=["*_proj", "lm_head"], range="minmax")
    )
    module.double()
    slow_gptq(module, "llama", "int4-g64")
    hessian = moments_of(inputs_of(module, "lm_head")).hessian_II.numpy()
    want = oracle.solve(module.lm_head.weight.detach().numpy(), hessian, "int4-g64")
    assert np.array_equal(made.qtensor("lm_head").codes.numpy(), want.codes_OI)


def test_about_one_block_is_in_memory_at_a_time(tmp_path, monkeypatch):
    module = tiny.llama(blocks=3, tied=False)
    model = models.load(tiny.saved(module, tmp_path / "model"))
    block = sum(p.numel() for p in module.model.layers[0].parameters())
    largest = max(block, module.lm_head.weight.numel() + tiny.HIDDEN)
    held: list[int] = []
    made_of: list[nn.Module] = []
    copied, run_block = models.copied, models.run_block

    def remember(given):
        made_of.append(copied(given).module)
        return models.load(tmp_path / "model").__class__(**{**given.__dict__, "module": made_of[0]})

    def count(*args):
        held.append(sum(p.numel() for p in made_of[0].parameters() if p.device.type != "meta"))
        return run_block(*args)

    monkeypatch.setattr(models, "copied", remember)
    monkeypatch.setattr(models, "run_block", count)
    seen: list[int] = []

    def progress(what, done, total, note=""):
        seen.append(sum(p.numel() for p in made_of[0].parameters() if p.device.type != "meta"))

    tiny.compress(model, tmp_path / "out", tiny.step("gptq", "int4-g64"), progress=progress)
    assert held and max(held) == block
    assert max(seen) <= largest


@pytest.mark.parametrize("shared", [False, True], ids=["apart", "one batch twice"])
def test_embeddings_given_as_batches_stay_the_callers(shared, tmp_path):
    model = models.load(tiny.saved(tiny.llama(), tmp_path / "model"))
    models.materialize(model, "model.embed_tokens")
    embed = model.module.model.embed_tokens
    tokens = tiny.token_batches(2)
    batches = [{"inputs_embeds": embed(batch["input_ids"]).detach().clone()} for batch in tokens]
    if shared:
        tokens, batches = [tokens[0]] * 2, [batches[0]] * 2
    before = [batch["inputs_embeds"].clone() for batch in batches]
    steps = tiny.step("gptq", "int4-g64", only=["model.layers.*"])
    got = tiny.compress(model, tmp_path / "got", steps, calibration=batches)
    want = tiny.compress(model, tmp_path / "want", steps, calibration=tokens)
    assert all(torch.equal(batch["inputs_embeds"], b) for batch, b in zip(batches, before, strict=True))
    for name, weight in tiny.decoded(want).items():
        assert torch.equal(tiny.decoded(got)[name], weight), name


def test_the_same_model_object_can_be_compressed_again(tmp_path):
    model = models.load(tiny.saved(tiny.llama(), tmp_path / "model"))
    models.materialize(model, "lm_head")
    before = model.module.lm_head.weight.clone()
    steps = tiny.step("gptq", "int3-g64"), tiny.step("rtn", "int4-g64", only=["*.embed_tokens"])
    tiny.compress(model, tmp_path / "first", *steps)
    tiny.compress(model, tmp_path / "second", *steps)
    assert tiny.hashed_files(tmp_path / "first") == tiny.hashed_files(tmp_path / "second")
    assert torch.equal(model.module.lm_head.weight, before)

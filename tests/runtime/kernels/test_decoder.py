"""The native decode loop against an oracle in float64, and against itself: piece by piece, side by side, on any threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

import netweight
from netweight import models, recipe, runtime
from netweight.errors import KernelError, NotFiniteError, SettingsError
from netweight.runtime import kernels
from netweight.runtime._generate import Draw
from oracles.decoder import gpt2_logits, llama_logits
from tiny_lm import tiny_tokenizer

TOKENS = [int(t) for t in torch.randint(300, (45,), generator=torch.Generator().manual_seed(0))]
HEADS, KV_HEADS, THETA = 4, 2, 10000.0


def llama(**more) -> transformers.LlamaForCausalLM:
    config = transformers.LlamaConfig(
        hidden_size=64, intermediate_size=160, num_hidden_layers=2, num_attention_heads=HEADS, num_key_value_heads=KV_HEADS,
        vocab_size=300, max_position_embeddings=128, pad_token_id=0, bos_token_id=1, eos_token_id=2, **more,
    )  # fmt: skip
    return filled(transformers.LlamaForCausalLM(config))


def gpt2() -> transformers.GPT2LMHeadModel:
    config = transformers.GPT2Config(
        n_embd=64, n_layer=2, n_head=HEADS, vocab_size=300, n_positions=128, bos_token_id=1, eos_token_id=2
    )
    return filled(transformers.GPT2LMHeadModel(config))


def filled(module):
    generator = torch.Generator().manual_seed(1)
    for name, parameter in module.named_parameters():
        if "norm" not in name and "ln_" not in name:
            torch.nn.init.normal_(parameter, std=0.15, generator=generator)
        elif parameter.dim() == 1:
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return module.eval()


MAKERS = {
    "llama": lambda: llama(tie_word_embeddings=True),
    "untied": lambda: llama(tie_word_embeddings=False),
    "biased": lambda: llama(tie_word_embeddings=True, attention_bias=True),
    "gpt2": gpt2,
}


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory) -> dict[str, Path]:
    made = {}
    for name, maker in MAKERS.items():
        folder = tmp_path_factory.mktemp("decoder") / name
        maker().save_pretrained(folder / "model")
        tiny_tokenizer().save_pretrained(folder / "model")
        steps = [{"use": "rtn", "format": "int4-g32", "only": ["*"]}]
        if name == "untied":  # some layers stay as they are, the head among them
            steps = [{"use": "rtn", "format": "nvfp4", "only": ["model.layers.*"], "skip": ["*.k_proj", "*.down_proj"]}]
        plan = recipe.load({"name": name, "step": steps})
        netweight.compress(folder / "model", plan, out=folder / "out", threads=1)
        made[name] = folder / "out"
    return made


def oracle(folder: Path, tokens: list[int]) -> np.ndarray:
    module = runtime.load(folder, kernels="off").module
    weights = {name: tensor.detach().float().numpy() for name, tensor in module.state_dict().items()}
    if "transformer.wte.weight" in weights:
        return gpt2_logits(weights, tokens, heads=HEADS, eps=1e-5)
    return llama_logits(weights, tokens, heads=HEADS, kv_heads=KV_HEADS, eps=1e-6, theta=THETA)


@pytest.mark.parametrize("name", MAKERS)
def test_logits_are_those_of_the_oracle_with_float_activations(name: str, artifacts, isa: str):
    decoder = runtime.NativeDecoder(runtime.load(artifacts[name], kernels="exact").model)
    want = oracle(artifacts[name], TOKENS)
    whole = decoder.forward((decoder.session(),), (TOKENS,), all_positions=True).double().numpy()
    assert np.abs(whole - want).max() < 2e-4 * np.abs(want).max()
    session, pieces = decoder.session(), []
    for part in (TOKENS[:1], TOKENS[1:2], TOKENS[2:5], TOKENS[5:25], TOKENS[25:]):
        pieces.append(decoder.forward((session,), (part,), all_positions=True))
    assert len(session) == len(TOKENS)
    assert np.abs(torch.cat(pieces).double().numpy() - want).max() < 2e-4 * np.abs(want).max()


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_eight_bit_activations_stay_close_to_transformers_own_forward(name: str, artifacts, isa: str):
    """Both paths run the same kernels. Keys and values in float16 move an activation across a rounding now and then, which
    costs as much as rounding itself does: so both must be equally far from the float result, and no further from each other.
    """
    loaded = runtime.load(artifacts[name])
    decoder = runtime.NativeDecoder(loaded.model)
    got = decoder.forward((decoder.session(),), (TOKENS,), all_positions=True)
    with torch.no_grad():
        want = loaded.module(input_ids=torch.tensor([TOKENS])).logits[0]
    floats = torch.from_numpy(oracle(artifacts[name], TOKENS)).float()
    rounding, native, apart = ((a - b).std() / floats.std() for a, b in ((want, floats), (got, floats), (got, want)))
    assert 1e-4 < rounding < 0.1
    assert 0.67 < native / rounding < 1.5 and apart < 1.5 * rounding


def test_texts_side_by_side_are_as_each_alone(artifacts, isa: str):
    decoder = runtime.NativeDecoder(runtime.load(artifacts["llama"]).model)
    texts = [TOKENS[:7], TOKENS[7:30], TOKENS[30:31]]
    alone = [decoder.forward((decoder.session(),), (text,))[0] for text in texts]
    sessions = [decoder.session() for _ in texts]
    together = decoder.forward(sessions, texts)
    for one, row in zip(alone, together, strict=True):
        assert float((one - row).abs().max()) < 0.02 * float(one.std())
    singles = []
    for text in texts:
        session = decoder.session()
        decoder.forward((session,), (text,))
        singles.append(decoder.forward((session,), ((5,),))[0])
    step = decoder.forward(sessions, [[5], [5], [5]])
    for one, row in zip(singles, step, strict=True):
        assert float((one - row).abs().max()) < 0.02 * float(one.std())


def test_threads_do_not_change_a_bit(artifacts, threads: int):
    decoder = runtime.NativeDecoder(runtime.load(artifacts["llama"]).model)
    many = decoder.forward((decoder.session(),), (TOKENS,), all_positions=True)
    kernels.set_threads(1)
    assert torch.equal(decoder.forward((decoder.session(),), (TOKENS,), all_positions=True), many)


def test_a_text_that_was_cut_goes_on_as_if_it_had_ended_there(artifacts):
    decoder = runtime.NativeDecoder(runtime.load(artifacts["llama"]).model)
    session = decoder.session()
    decoder.forward((session,), (TOKENS[:20],))
    want = decoder.forward((session,), ((9,),))[0]
    decoder.forward((session,), (TOKENS[20:],))
    session.cut(20)
    assert torch.equal(decoder.forward((session,), ((9,),))[0], want)
    with pytest.raises(SettingsError, match="cannot cut a text of 21 tokens to 22"):
        session.cut(22)


def test_two_threads_of_the_caller_do_not_disturb_each_other(artifacts):
    kernels.set_threads(2)
    decoder = runtime.NativeDecoder(runtime.load(artifacts["llama"]).model)
    want = decoder.forward((decoder.session(),), (TOKENS,), all_positions=True)

    def work(_: int) -> bool:
        session = decoder.session()
        return all(
            torch.equal(decoder.forward((session,), (TOKENS,), all_positions=True), want) or session.cut(0) is not None
            for _ in (0,)
        )

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(40)))


def test_wrong_requests_are_refused(artifacts):
    decoder = runtime.NativeDecoder(runtime.load(artifacts["llama"]).model, longest=16)
    session = decoder.session()
    with pytest.raises(SettingsError, match="0 \\+ 17 tokens are more than the 16 of the session"):
        decoder.forward((session,), (TOKENS[:17],))
    with pytest.raises(SettingsError, match="tokens must lie in 0 … 299"):
        decoder.forward((session,), ((300,),))
    with pytest.raises(SettingsError, match="at least one token"):
        decoder.forward((session,), ((),))
    with pytest.raises(SettingsError, match="only once"):
        decoder.forward((session, session), ((1,), (2,)))
    assert len(session) == 0
    other = runtime.NativeDecoder(runtime.load(artifacts["gpt2"]).model, longest=16).session()
    with pytest.raises(KernelError, match="a step of the decode loop"):
        decoder.forward((other,), ((1,),))


def test_activations_that_overflow_are_said(artifacts):
    loaded = runtime.load(artifacts["llama"])
    with torch.no_grad():
        loaded.module.model.norm.weight.fill_(float("inf"))
    decoder = runtime.NativeDecoder(loaded.model)
    with pytest.raises(NotFiniteError, match="a step of the decode loop"):
        decoder.forward((decoder.session(),), (TOKENS,))


def test_models_without_a_native_loop_say_why():
    module = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            hidden_size=24, intermediate_size=32, num_hidden_layers=1, num_attention_heads=3, vocab_size=50
        )
    )
    with pytest.raises(KernelError, match="no native decode loop for heads 8 wide"):
        runtime.NativeDecoder(models.load(module))


def test_draws_are_those_of_the_transformers_path():
    logits = torch.randn(5000, generator=torch.Generator().manual_seed(0)) * 3
    library, draw = kernels.library(), Draw(0.8, seed=11)
    for step in range(20):
        picked = library.nw_sample(logits.data_ptr(), len(logits), 0.8, 11, step)
        assert picked == int(draw(torch.zeros(1, 1), logits.unsqueeze(0)).argmax())


def test_a_model_on_another_device_says_so(artifacts):
    model = runtime.load(artifacts["llama"]).model
    model.module.to("meta")
    assert runtime.decode_path(model) == "transformers' loop (the model is on meta)"


@pytest.mark.parametrize("temperature", [0.0, 0.9])
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_generated_text_is_that_of_the_transformers_path(name: str, temperature: float, artifacts, monkeypatch):
    model = runtime.load(artifacts[name], kernels="exact").model
    assert runtime.decode_path(model) == "native decode loop"
    native = "".join(runtime.generate(model, "an object is", max_tokens=24, temperature=temperature, seed=4))
    monkeypatch.setattr("netweight.runtime._generate.why_not_native", lambda _: "this test asks for the other")
    other = "".join(runtime.generate(model, "an object is", max_tokens=24, temperature=temperature, seed=4))
    assert native == other and native

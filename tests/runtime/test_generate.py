"""Text comes in pieces, the same for the same seed, stops when nobody listens, and wrong requests are refused at once."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from netweight import models, runtime
from netweight.errors import ArtifactError, ModelError, SettingsError
from netweight.runtime._generate import Draw


@pytest.fixture(scope="module")
def model(tiny_folder: Path) -> models.Model:
    loaded = models.load(tiny_folder)
    models.materialize(loaded, "")
    return loaded


def text(model: models.Model, **settings) -> str:
    return "".join(runtime.generate(model, "an object is", max_tokens=12, **settings))


def test_greedy_text_is_the_likeliest_token_again_and_again(model):
    """The oracle: one forward pass per token over the whole text so far."""
    tokenizer = model.tokenizer()
    ids = tokenizer("an object is")["input_ids"]
    start = len(ids)
    for _ in range(12):
        with torch.no_grad():
            ids.append(int(model.module(torch.tensor([ids])).logits[0, -1].argmax()))
        if ids[-1] == tokenizer.eos_token_id:
            break
    assert text(model) == tokenizer.decode(ids[start:], skip_special_tokens=True)


def test_a_seed_gives_the_same_sample_and_another_seed_another(model):
    assert text(model, temperature=1.0, seed=3) == text(model, temperature=1.0, seed=3)
    assert len({text(model, temperature=1.0, seed=seed) for seed in range(4)}) > 1


def test_sampling_leaves_torchs_own_generator_alone(model):
    torch.manual_seed(7)
    want = torch.rand(3)
    torch.manual_seed(7)
    text(model, temperature=1.0)
    assert torch.equal(torch.rand(3), want)


def test_draws_follow_the_softmax_of_the_tempered_logits():
    logits = torch.tensor([[0.0, 1.0, 2.0, -1.0]])
    n, temperature = 20_000, 0.7
    draw = Draw(temperature, seed=0)
    counts = torch.zeros(4)
    for _ in range(n // 1000):
        picked = draw(torch.zeros(1000, 1), logits.expand(1000, 4)).argmax(1)
        counts += torch.bincount(picked, minlength=4)
    want = torch.softmax(logits[0] / temperature, 0)
    # four standard deviations of a binomial share: a right sampler fails once in about 4,000 seeds, and this seed is fixed
    assert bool(((counts / n - want).abs() < 4 * (want * (1 - want) / n).sqrt()).all())


def test_a_low_temperature_is_nearly_greedy(model):
    assert text(model, temperature=1e-6, seed=5) == text(model)


def test_leaving_early_ends_the_generation(model):
    pieces = runtime.generate(model, "an object is", max_tokens=200)
    next(pieces)
    assert len(_workers()) == 1
    pieces.close()  # pyright: ignore[reportAttributeAccessIssue]
    assert _workers() == []


def test_an_error_inside_the_generation_reaches_the_reader(model, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("out of something")

    monkeypatch.setattr(model.module, "forward", fail)
    with pytest.raises(RuntimeError, match="out of something"):
        text(model)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"prompt": ""}, "the prompt is empty"),
        ({"max_tokens": 0}, "max_tokens = 0"),
        ({"max_tokens": 1000}, "more than the 256"),
        ({"temperature": -0.5}, "temperature = -0.5"),
        ({"temperature": float("nan")}, "temperature = nan"),
        ({"seed": -1}, "seed = -1"),
    ],
)
def test_a_wrong_request_is_refused_before_the_first_piece_is_asked_for(model, settings, message):
    with pytest.raises(SettingsError, match=message):
        runtime.generate(model, **({"prompt": "a"} | settings))


def test_what_is_no_language_model_or_has_no_tokenizer_writes_no_text(model):
    with pytest.raises(ArtifactError, match="no causal language model"):
        runtime.generate(models.load(torch.nn.Linear(2, 2)), "a")
    with pytest.raises(ModelError, match="no tokenizer"):
        runtime.generate(replace(model, open_tokenizer=None), "a")


def test_a_chat_model_is_asked_in_its_own_form(tiny_folder: Path):
    loaded = models.load(tiny_folder)
    models.materialize(loaded, "")
    loaded.tokenizer().chat_template = "{% for m in messages %}value {{ m.content }} of{% endfor %}"
    plain = models.load(tiny_folder)
    models.materialize(plain, "")
    assert "".join(runtime.generate(loaded, "an", max_tokens=5)) == "".join(
        runtime.generate(plain, "value an of", max_tokens=5)
    )


def _workers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if "work" in thread.name]

"""Text from a language model, piece by piece, through transformers' own generation loop."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import torch
from transformers import TextIteratorStreamer

from netweight.errors import ArtifactError, SettingsError
from netweight.models import Model


def generate(
    model: Model, prompt: str, *, max_tokens: int = 64, temperature: float = 0.0, seed: int = 0
) -> Iterator[str]:
    """Pieces of text as they come; the prompt is put into the model's chat form where it has one.

    Args:
      model: a causal language model with all its weights in memory.
      max_tokens: most tokens to generate.
      temperature: 0 takes the likeliest token; above 0 samples.
      seed: of the sampling.
    Raises:
      ArtifactError: not a causal language model. SettingsError: a setting outside its limits.
    """
    if model.kind != "causal-lm":
        raise ArtifactError(f"{model.name} is no causal language model ({model.kind}); there is no text to generate")
    if max_tokens < 1:
        raise SettingsError(f"max_tokens = {max_tokens}: must be at least 1")
    if not temperature >= 0:
        raise SettingsError(f"temperature = {temperature}: must be 0 or more")
    tokenizer = model.tokenizer()
    streamer = TextIteratorStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True, timeout=None)
    sampling: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    if temperature:
        sampling = {"do_sample": True, "temperature": temperature, "top_p": None, "top_k": None}
    settings = {
        **_encoded(tokenizer, prompt),
        **sampling,
        "max_new_tokens": max_tokens,
        "streamer": streamer,
        "pad_token_id": tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id,
    }
    failure: list[BaseException] = []

    def work() -> None:
        try:
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                model.module.generate(**settings)  # pyright: ignore[reportCallIssue]
        except BaseException as error:  # handed to the caller below
            failure.append(error)
            streamer.end()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    yield from streamer
    thread.join()
    if failure:
        raise failure[0]


def _encoded(tokenizer: Any, prompt: str) -> dict[str, torch.Tensor]:
    if not prompt:
        raise SettingsError("the prompt is empty; give some text to continue")
    if tokenizer.chat_template:
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], add_generation_prompt=True, tokenize=False
        )
        found = tokenizer(text, add_special_tokens=False, return_tensors="pt")
    else:
        found = tokenizer(prompt, return_tensors="pt")
    return {"input_ids": found["input_ids"], "attention_mask": found["attention_mask"]}

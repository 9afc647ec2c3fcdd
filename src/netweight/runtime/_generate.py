"""Text from a language model, piece by piece, through transformers' own generation loop."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, StoppingCriteria, TextIteratorStreamer

from netweight.errors import ArtifactError, SettingsError
from netweight.models import Model


class Draw(LogitsProcessor):
    """Sampling with a generator of its own: the likeliest token after Gumbel noise is a draw from softmax(logits / T).

    Source: E. Gumbel, "Statistical theory of extreme values", 1954; C. Maddison et al., "A* sampling", NeurIPS 2014.
    """

    def __init__(self, temperature: float, seed: int) -> None:
        self._temperature, self._generator = temperature, torch.Generator().manual_seed(seed)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        exponential = torch.empty(scores.shape, dtype=torch.float64).exponential_(generator=self._generator)
        return scores.double() / self._temperature - exponential.log().to(scores.device)


class Stop(StoppingCriteria):
    """Ends the generation at the next token once nobody listens any more."""

    def __init__(self) -> None:
        self.asked = threading.Event()

    def __call__(self, input_ids: Tensor, scores: Tensor, **_: Any) -> Tensor:
        return torch.full((len(input_ids),), self.asked.is_set(), device=input_ids.device)


def generate(
    model: Model, prompt: str, *, max_tokens: int = 64, temperature: float = 0.0, seed: int = 0
) -> Iterator[str]:
    """Pieces of text as they come; the prompt is put into the model's chat form where it has one.

    Leaving the iteration early, Ctrl-C included, ends the generation within one token.

    Args:
      model: a causal language model with all its weights in memory.
      max_tokens: most tokens to generate.
      temperature: 0 takes the likeliest token; above 0 samples.
      seed: of the sampling.
    Raises (before the first piece is asked for):
      ArtifactError: not a causal language model. ModelError: it has no tokenizer.
      SettingsError: a setting outside its limits, or more tokens than the model can read.
    """
    check_request(prompt, max_tokens=max_tokens, temperature=temperature, seed=seed)
    check_kind(model.name, model.kind)
    tokenizer = model.tokenizer()
    ids_BT = _encoded(tokenizer, prompt)
    if model.longest is not None and ids_BT.shape[1] + max_tokens > model.longest:
        raise SettingsError(
            f"{ids_BT.shape[1]} tokens of prompt and max_tokens = {max_tokens} are more than the {model.longest} "
            f"{model.name} can read; shorten one of them"
        )
    settings: dict[str, Any] = {
        "input_ids": ids_BT,
        "attention_mask": torch.ones_like(ids_BT),
        "max_new_tokens": max_tokens,
        "do_sample": False,  # ``Draw`` samples
        **dict.fromkeys(("temperature", "top_p", "top_k")),
        "logits_processor": [Draw(temperature, seed)] if temperature else [],
        "pad_token_id": tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id,
    }
    return _pieces(model, tokenizer, settings)


def check_request(prompt: str, *, max_tokens: int, temperature: float, seed: int) -> None:
    """Raises: SettingsError: the prompt is empty, or a setting lies outside its limits."""
    if not prompt:
        raise SettingsError("the prompt is empty; give some text to continue")
    if max_tokens < 1:
        raise SettingsError(f"max_tokens = {max_tokens}: must be at least 1")
    if not 0 <= temperature < float("inf"):
        raise SettingsError(f"temperature = {temperature}: must be 0 or more")
    if not 0 <= seed < 2**63:
        raise SettingsError(f"seed = {seed}: must be a whole number from 0 to 2^63 - 1")


def check_kind(name: str, kind: str) -> None:
    """Raises: ArtifactError: such a model writes no text."""
    if kind != "causal-lm":
        raise ArtifactError(f"{name} is no causal language model (its kind is {kind!r}); there is no text to generate")


def _pieces(model: Model, tokenizer: Any, settings: dict[str, Any]) -> Iterator[str]:
    """The generation runs in a thread of its own and hands its pieces over through the streamer."""
    streamer = TextIteratorStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True, timeout=None)
    stop = Stop()
    failure: list[BaseException] = []

    def work() -> None:
        try:
            with torch.no_grad():
                model.module.generate(**settings, streamer=streamer, stopping_criteria=[stop])  # pyright: ignore[reportCallIssue]
        except BaseException as error:  # handed to whoever reads the pieces
            failure.append(error)
            streamer.end()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield from streamer
    finally:
        stop.asked.set()
        thread.join()
    if failure:
        raise failure[0]


def _encoded(tokenizer: Any, prompt: str) -> Tensor:
    """(1, T) ids. Raises: SettingsError: nothing of the prompt is left after the tokenizer."""
    if tokenizer.chat_template:
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], add_generation_prompt=True, tokenize=False
        )
        ids_BT = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
    else:
        ids_BT = tokenizer(prompt, return_tensors="pt")["input_ids"]
    if not ids_BT.shape[-1]:
        raise SettingsError(f"the prompt {prompt!r} has no tokens; give some text to continue")
    return ids_BT

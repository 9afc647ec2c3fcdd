"""Text from a language model, piece by piece, through transformers' own generation loop."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, StoppingCriteria, TextIteratorStreamer, TextStreamer

from netweight import models
from netweight.errors import ArtifactError, SettingsError
from netweight.models import Model
from netweight.runtime import kernels
from netweight.runtime._decoder import NativeDecoder, decoder_of
from netweight.runtime._linear import Packed
from netweight.runtime._sampling import gumbel

# What a model's generation settings may ask for that the native loop does not do, and the value that asks for nothing.
UNDONE = {
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "encoder_repetition_penalty": 1.0,
    "min_length": 0,
    "min_new_tokens": None,
    "bad_words_ids": None,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
    "forced_bos_token_id": None,
    "forced_eos_token_id": None,
    "sequence_bias": None,
    "guidance_scale": None,
    "exponential_decay_length_penalty": None,
    "num_beams": 1,
}


class Draw(LogitsProcessor):
    """Sampling by Gumbel noise: the likeliest token after it is a draw from softmax(logits / T)."""

    def __init__(self, temperature: float, seed: int) -> None:
        self._temperature, self._seed, self._step = temperature, seed, 0

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        noise = torch.from_numpy(gumbel(scores.numel(), self._seed, self._step)).reshape(scores.shape).to(scores.device)
        self._step += 1
        return scores.double() / self._temperature + noise


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

    A model with packed layers runs in the native decode loop where its family has one, any other in transformers' own. Both
    choose the same tokens from the same logits. Leaving the iteration early, Ctrl-C included, ends the generation within one token.

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
    if why_not_native(model) is None:
        return _native_pieces(model, tokenizer, ids_BT[0], max_tokens, temperature, seed)
    ids_BT = ids_BT.to(_device(model))
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


def why_not_native(model: Model) -> str | None:
    """Why generation goes through transformers; None where the native loop does it."""
    if not any(isinstance(part, Packed) for part in model.module.modules()):
        return "no layer is packed"
    if (why := kernels.missing()) is not None:
        return why
    if (device := _device(model)).type != "cpu":
        return f"the model is on {device}"
    settings = getattr(model.module, "generation_config", None)
    for name, nothing in UNDONE.items():
        if getattr(settings, name, nothing) not in (nothing, None):
            return f"the model asks for {name} = {getattr(settings, name)}"
    if any(models.rounded_inputs(part) for part in model.module.modules()):
        return "an input is rounded before a layer without a packed kernel"
    row, why = decoder_of(model)
    return None if row else why


def decode_path(model: Model) -> str:
    """Which loop writes the text, for the first line of a run."""
    why = why_not_native(model)
    return "native decode loop" if why is None else f"transformers' loop ({why})"


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


class _Collector(TextStreamer):
    """transformers' own cutting of tokens into printable pieces, without printing."""

    def __init__(self, tokenizer: Any) -> None:
        super().__init__(tokenizer, skip_prompt=False, skip_special_tokens=True)
        self._ready: list[str] = []

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        self._ready.append(text)

    def take(self) -> Iterator[str]:
        ready, self._ready = self._ready, []
        return (piece for piece in ready if piece)


def _native_pieces(
    model: Model, tokenizer: Any, prompt_T: Tensor, max_tokens: int, temperature: float, seed: int
) -> Iterator[str]:
    ends, collector = _ends(model, tokenizer), _Collector(tokenizer)
    length = len(prompt_T) + max_tokens
    decoder = NativeDecoder(model, longest=length)
    session = decoder.session(length)
    logits = decoder.forward((session,), (prompt_T,))[0]
    for step in range(max_tokens):
        token = decoder.choose(logits, temperature=temperature, seed=seed, step=step)
        if token in ends:
            break
        collector.put(torch.tensor([token]))
        yield from collector.take()
        if step + 1 < max_tokens:
            logits = decoder.forward((session,), ((token,),))[0]
    collector.end()
    yield from collector.take()


def _device(model: Model) -> torch.device:
    """Where the model's first tensor is."""
    module = model.module
    return next(itertools.chain(module.parameters(), module.buffers()), torch.empty(0)).device


def _ends(model: Model, tokenizer: Any) -> set[int]:
    """Tokens that end a text."""
    found = getattr(getattr(model.module, "generation_config", None), "eos_token_id", None)
    found = tokenizer.eos_token_id if found is None else found
    return set(found if isinstance(found, list) else [found])


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

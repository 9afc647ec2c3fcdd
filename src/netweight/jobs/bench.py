"""bench: how fast an artifact runs here, beside the same weights decoded and beside this machine's own read speed.

Contestants take turns, so that a slow minute falls on all of them; numbers are medians over rounds with intervals from order
statistics. Decoding reads every weight once for a token, so its limit is the machine's read speed, measured in the same rounds.
"""

from __future__ import annotations

import json as json_text
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from netweight import models, runtime
from netweight.artifact import Artifact, open_artifact
from netweight.errors import KernelError, SettingsError
from netweight.evaluate import median_interval
from netweight.jobs._subjects import is_artifact
from netweight.models import Model
from netweight.runtime import kernels

READ_BYTES = 512 << 20  # more than any cache holds
BUDGET_S = 60.0  # of one contestant; a slow one gets fewer rounds, and says so


@dataclass(frozen=True)
class Speed:
    """Work per second: the median over ``n`` rounds, and the 95 % interval of its order statistics; fewer than 6 give none."""

    value: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Contestant:
    """One way to run the model. Speeds are in tokens per second, or inputs per second for a module."""

    name: str
    path: str
    load_s: float
    bytes_in_memory: int
    bytes_per_step: int  # weights that one step of decoding reads
    decode: Speed | None
    prefill: Speed | None
    read_share: float | None  # of the measured read speed, while decoding


@dataclass(frozen=True)
class Benchmark:
    """What ``netweight bench`` found."""

    artifact: str
    isa: str
    threads: int
    read_gb_s: Speed | None
    prompt_tokens: int
    contestants: tuple[Contestant, ...]

    def to_json(self) -> str:
        return json_text.dumps(asdict(self), indent=2)


def bench(
    artifact: Any,
    *,
    against: Any = None,
    prompt_tokens: int = 128,
    rounds: int = 7,
    tokens: int = 16,
    threads: int = 0,
    require_kernels: bool = False,
    into: nn.Module | None = None,
    example: Tensor | None = None,
    json: bool = False,
) -> Benchmark | str:
    """See ``netweight.bench``."""
    if min(prompt_tokens, rounds, tokens) < 1 or threads < 0:
        raise SettingsError("prompt_tokens, rounds and tokens must be at least 1, threads at least 0")
    opened = artifact if isinstance(artifact, Artifact) else open_artifact(artifact)
    count = threads or torch.get_num_threads()
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        found = _bench(opened, against, prompt_tokens, rounds, tokens, count, require_kernels, into, example)
    finally:
        torch.set_num_threads(before)
    return found.to_json() if json else found


def _bench(
    artifact: Artifact,
    against: Any,
    prompt_tokens: int,
    rounds: int,
    tokens: int,
    threads: int,
    require: bool,
    into: nn.Module | None,
    example: Tensor | None,
) -> Benchmark:
    native = kernels.missing() is None
    if native:
        kernels.set_threads(threads)
    elif require:
        raise KernelError(kernels.missing() or "")
    loaded = runtime.load(artifact, into=into, kernels="require" if require else "auto")
    runners = [_runner("packed", loaded.model, loaded.summary(), loaded.load_s, prompt_tokens, tokens, example)]
    runners.append(_other(artifact, against, into, prompt_tokens, tokens, example))
    read = torch.zeros(READ_BYTES, dtype=torch.uint8) if native else None
    times: dict[str, dict[str, list[float]]] = {r.name: {"decode": [], "prefill": []} for r in runners}
    speeds_read: list[float] = []
    spent = dict.fromkeys(times, 0.0)
    for number in range(rounds + 1):  # the first round warms up
        if read is not None:
            speeds_read.append(
                READ_BYTES / 1e9 / _seconds(lambda: kernels.library().nw_read(read.data_ptr(), READ_BYTES, 1))
            )
        for runner in runners:
            if spent[runner.name] > BUDGET_S and number > 2:
                continue
            for kind, work, amount in runner.work:
                seconds = _seconds(work)
                spent[runner.name] += seconds
                if number:
                    times[runner.name][kind].append(amount / seconds)
    read_speed = _speed(speeds_read[1:]) if speeds_read else None
    return Benchmark(
        artifact.path.resolve().name,
        kernels.isa() if native else "none",
        threads,
        read_speed,
        prompt_tokens,
        tuple(_contestant(runner, times[runner.name], read_speed) for runner in runners),
    )


@dataclass(frozen=True)
class _Runner:
    name: str
    path: str
    load_s: float
    model: Model
    work: tuple[
        tuple[str, Callable[[], object], float], ...
    ]  # kind, one piece of it, how many tokens or inputs that is


def _other(
    artifact: Artifact, against: Any, into: nn.Module | None, prompt_tokens: int, tokens: int, example: Tensor | None
) -> _Runner:
    begun = time.perf_counter()
    if against is None:
        decoded = runtime.load(artifact, into=into, check=False, kernels="off")
        return _runner(
            "decoded",
            decoded.model,
            "the same weights as float32, in torch",
            decoded.load_s,
            prompt_tokens,
            tokens,
            example,
        )
    if is_artifact(against):
        other = runtime.load(against, into=into)
        return _runner(
            other.artifact.path.resolve().name,
            other.model,
            other.summary(),
            other.load_s,
            prompt_tokens,
            tokens,
            example,
        )
    model = against if isinstance(against, Model) else models.load(against)
    models.materialize(model, "")
    seconds = time.perf_counter() - begun
    return _runner(
        "original", model, "an original, not an artifact: float32 weights", seconds, prompt_tokens, tokens, example
    )


def _runner(
    name: str, model: Model, path: str, load_s: float, prompt_tokens: int, tokens: int, example: Tensor | None
) -> _Runner:
    if model.kind == "causal-lm":
        return _language_runner(name, model, path, load_s, prompt_tokens, tokens)
    if example is None:
        raise SettingsError(f"{model.name} writes no text: pass an example input, bench(artifact, example=tensor)")
    inputs = example

    def forward() -> None:
        with torch.inference_mode():
            model.module(inputs)

    return _Runner(name, path, load_s, model, (("prefill", forward, float(len(inputs))),))


def _language_runner(name: str, model: Model, path: str, load_s: float, prompt_tokens: int, tokens: int) -> _Runner:
    generator = torch.Generator().manual_seed(0)
    prompt_T = torch.randint(int(model.config.vocab_size), (prompt_tokens,), generator=generator)
    if runtime.why_not_native(model) is None:
        decoder = runtime.NativeDecoder(model, longest=prompt_tokens + tokens + 1)
        session = decoder.session()
        state = {"token": 0}

        def prefill() -> None:
            session.cut(0)
            state["token"] = decoder.choose(decoder.forward((session,), (prompt_T,))[0])

        def decode() -> None:
            for _ in range(tokens):
                state["token"] = decoder.next(session, state["token"])

        path = f"{path}; native decode loop"
    else:
        cache: dict[str, Any] = {}

        def prefill() -> None:
            with torch.inference_mode():
                out = model.module(input_ids=prompt_T.unsqueeze(0), use_cache=True, logits_to_keep=1)
            cache["past"], cache["token"] = out.past_key_values, out.logits[:, -1:].argmax(-1)

        def decode() -> None:
            for _ in range(tokens):
                with torch.inference_mode():
                    out = model.module(input_ids=cache["token"], past_key_values=cache["past"], use_cache=True)
                cache["past"], cache["token"] = out.past_key_values, out.logits[:, -1:].argmax(-1)

        path = f"{path}; {runtime.decode_path(model)}"
    return _Runner(
        name, path, load_s, model, (("prefill", prefill, float(prompt_tokens)), ("decode", decode, float(tokens)))
    )


def _contestant(runner: _Runner, found: dict[str, list[float]], read: Speed | None) -> Contestant:
    decode = _speed(found["decode"]) if found["decode"] else None
    step = runtime.bytes_per_step(runner.model)
    share = decode.value * step / 1e9 / read.value if decode and read else None
    prefill = _speed(found["prefill"]) if found["prefill"] else None
    memory = runtime.bytes_in_memory(runner.model.module)
    return Contestant(runner.name, runner.path, runner.load_s, memory, step, decode, prefill, share)


def _speed(values: list[float]) -> Speed:
    interval = median_interval(np.array(values), items="rounds")
    return Speed(statistics.median(values), interval.low, interval.high, len(values))


def _seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun

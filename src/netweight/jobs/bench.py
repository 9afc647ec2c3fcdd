"""bench: how fast an artifact runs here, beside the same weights decoded and beside this machine's own read speed.

Contestants take turns, so that a slow minute falls on all of them; numbers are medians over rounds with intervals from order
statistics. Decoding reads every weight once for a token, so its limit is the machine's read speed, measured in the same rounds.
"""

from __future__ import annotations

import json as json_text
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from netweight import models, runtime
from netweight.artifact import Artifact, open_artifact
from netweight.errors import ArtifactError, SettingsError
from netweight.evaluate import median_interval
from netweight.jobs._deployed import noise, packed_of, trained
from netweight.jobs._runs import is_run, read, refuse_begun
from netweight.jobs._subjects import is_artifact
from netweight.jobs._threads import both_on
from netweight.models import Model
from netweight.runtime import kernels

READ_BYTES = 512 << 20  # more than any cache holds
STREAMS = 8  # read side by side: what memory can give at best
SINGLE = "single"  # seconds of one input, among the speeds of rounds
BUDGET_S = 60.0  # of one contestant; a slow one gets fewer rounds, and its `n` says so


@dataclass(frozen=True)
class Speed:
    """Work per second: the median over ``n`` rounds, and the 95 % interval of its order statistics; fewer than 6 give none."""

    value: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Latency:
    """Seconds from an input to its output, over ``n`` of them one at a time."""

    p50_s: float
    p99_s: float
    n: int


@dataclass(frozen=True)
class Contestant:
    """One way to run the model. Speeds are in tokens per second, or inputs per second for a module.

    ``latency`` is of nets of ``models.nets``, one picture at a time, whose speed is then that of single pictures too.
    """

    name: str
    path: str
    load_s: float
    bytes_in_memory: int
    bytes_per_step: int  # weights that one step of decoding reads
    decode: Speed | None
    prefill: Speed | None
    read_share: float | None  # of the measured read speed, while decoding
    latency: Latency | None = None


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


@dataclass(frozen=True)
class _Work:
    """What every contestant is to do."""

    prompt_tokens: int
    tokens: int
    example: Tensor | None
    one_by_one: bool = False  # a net of pictures: `tokens` of them in a round, each timed


@dataclass(frozen=True)
class _Piece:
    """One thing to time, and how many tokens or inputs it is."""

    kind: str  # "prefill" or "decode"
    run: Callable[[], list[float] | None]  # seconds of single inputs, where they are timed
    amount: float


@dataclass(frozen=True)
class _Runner:
    name: str
    path: str
    load_s: float
    model: Model
    pieces: tuple[_Piece, ...]
    one_by_one: bool = False


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
    opened = _artifact(artifact)
    net = "net" in opened.manifest.model and example is None
    work = _Work(prompt_tokens, tokens, noise(opened.manifest.model["net"]) if net else example, net)
    with both_on(threads) as count:
        loaded = runtime.load(opened, into=into, kernels="require" if require_kernels else "auto")
        first = _runner("packed", loaded.model, loaded.summary(), loaded.load_s, work)
        runners = [first, _other(opened, against, into, work)]
        if net and against is None:
            runners.append(_float32(opened, work))
        times, read = _measured(runners, rounds)
    read_speed = _speed(read) if read else None
    isa = kernels.isa() if kernels.missing() is None else "none"
    contestants = tuple(_contestant(runner, times[runner.name], read_speed) for runner in runners)
    found = Benchmark(opened.path.resolve().name, isa, count, read_speed, prompt_tokens, contestants)
    return found.to_json() if json else found


def _artifact(source: Any) -> Artifact:
    """An artifact, or what a run was packed to. Raises: ArtifactError: the run has no packed form."""
    refuse_begun(source)
    if not is_run(source):
        return source if isinstance(source, Artifact) else open_artifact(source)
    run = read(source)
    if (found := packed_of(run)) is None:
        raise ArtifactError(f"{source} has no packed form to measure: {run.training['packed']['reason']}")
    return found


def _measured(runners: Sequence[_Runner], rounds: int) -> tuple[dict[str, dict[str, list[float]]], list[float]]:
    """Per contestant and kind the speeds of its rounds, and those of reading memory as fast as it goes in GB/s; the first round warms up."""
    memory = torch.zeros(READ_BYTES, dtype=torch.uint8) if kernels.missing() is None else None
    times: dict[str, dict[str, list[float]]] = {runner.name: {} for runner in runners}
    spent, read = dict.fromkeys(times, 0.0), []
    for number in range(rounds + 1):
        if memory is not None:
            begun = time.perf_counter()
            kernels.library().nw_read(memory.data_ptr(), READ_BYTES, STREAMS)
            read.append(READ_BYTES / 1e9 / (time.perf_counter() - begun))
        for runner in runners:
            if spent[runner.name] > BUDGET_S and number > 2:
                continue
            for piece in runner.pieces:
                begun = time.perf_counter()
                single = piece.run()
                seconds = time.perf_counter() - begun
                spent[runner.name] += seconds
                if number:
                    times[runner.name].setdefault(piece.kind, []).append(piece.amount / seconds)
                    times[runner.name].setdefault(SINGLE, []).extend(single or ())
    return times, read[1:]


def _other(artifact: Artifact, against: Any, into: nn.Module | None, work: _Work) -> _Runner:
    begun = time.perf_counter()
    if against is None:
        loaded = runtime.load(artifact, into=into, check=False, kernels="off")
        return _runner("decoded", loaded.model, "the same weights as float32, in torch", loaded.load_s, work)
    if is_artifact(against):
        loaded = runtime.load(against, into=into)
        name = loaded.artifact.path.resolve().name
        return _runner(f"against {name}", loaded.model, loaded.summary(), loaded.load_s, work)
    if is_run(against):
        module, path = trained(read(against)).module, "float32 weights, layers rounding as they were trained"
        return _runner("run", models.load(module), path, time.perf_counter() - begun, work)
    model = against if isinstance(against, Model) else models.load(against)
    models.materialize(model, "")
    seconds = time.perf_counter() - begun
    return _runner("original", model, "an original, not an artifact: float32 weights", seconds, work)


def _float32(artifact: Artifact, work: _Work) -> _Runner:
    """The same net with the same decoded weights that rounds nothing it reads: what the rounding costs."""
    begun = time.perf_counter()
    loaded = runtime.load(artifact, check=False, kernels="off")
    for layer in artifact.manifest.layers:
        models.round_inputs(loaded.module.get_submodule(layer), "")
    return _runner(
        "float32", loaded.model, "the same weights as float32, no input is rounded", time.perf_counter() - begun, work
    )


def _runner(name: str, model: Model, path: str, load_s: float, work: _Work) -> _Runner:
    if model.kind != "causal-lm":
        return _Runner(name, path, load_s, model, (_forward(model, work),), work.one_by_one)
    pieces = _native(model, work) if runtime.why_not_native(model) is None else _through_transformers(model, work)
    return _Runner(name, f"{path}; {runtime.decode_path(model)}", load_s, model, pieces)


def _forward(model: Model, work: _Work) -> _Piece:
    if work.example is None:
        raise SettingsError(f"{model.name} writes no text: pass an example input, bench(artifact, example=tensor)")
    inputs = work.example

    def run() -> list[float]:
        took = []
        for _ in range(work.tokens if work.one_by_one else 1):
            begun = time.perf_counter()
            with torch.inference_mode():
                model.module(inputs)
            took.append(time.perf_counter() - begun)
        return took

    return _Piece("prefill", run, float(len(inputs)) * (work.tokens if work.one_by_one else 1))


def _prompt(model: Model, work: _Work) -> Tensor:
    """(T,) tokens drawn with a fixed seed."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(int(model.config.vocab_size), (work.prompt_tokens,), generator=generator)


def _native(model: Model, work: _Work) -> tuple[_Piece, ...]:
    decoder = runtime.NativeDecoder(model, longest=work.prompt_tokens + work.tokens)
    session, prompt_T, state = decoder.session(), _prompt(model, work), {"token": 0}

    def prefill() -> None:
        session.cut(0)
        state["token"] = decoder.choose(decoder.forward((session,), (prompt_T,))[0])

    def decode() -> None:
        for _ in range(work.tokens):
            state["token"] = decoder.next(session, state["token"])

    return _Piece("prefill", prefill, float(work.prompt_tokens)), _Piece("decode", decode, float(work.tokens))


def _through_transformers(model: Model, work: _Work) -> tuple[_Piece, ...]:
    prompt_T, state = _prompt(model, work), {}

    def step(**inputs: Any) -> None:
        with torch.inference_mode():
            out = model.module(use_cache=True, **inputs)
        state["past"], state["token"] = out.past_key_values, out.logits[:, -1:].argmax(-1)

    def prefill() -> None:
        step(input_ids=prompt_T.unsqueeze(0), logits_to_keep=1)

    def decode() -> None:
        for _ in range(work.tokens):
            step(input_ids=state["token"], past_key_values=state["past"])

    return _Piece("prefill", prefill, float(work.prompt_tokens)), _Piece("decode", decode, float(work.tokens))


def _contestant(runner: _Runner, found: dict[str, list[float]], read: Speed | None) -> Contestant:
    decode = _speed(found["decode"]) if "decode" in found else None
    step = runtime.bytes_per_step(runner.model)
    share = decode.value * step / 1e9 / read.value if decode and read else None
    memory = runtime.bytes_in_memory(runner.model.module)
    latency = _latency(found[SINGLE]) if runner.one_by_one else None
    prefill = _speed(found["prefill"])
    return Contestant(runner.name, runner.path, runner.load_s, memory, step, decode, prefill, share, latency)


def _latency(seconds: list[float]) -> Latency:
    return Latency(statistics.median(seconds), float(np.quantile(seconds, 0.99)), len(seconds))


def _speed(values: list[float]) -> Speed:
    interval = median_interval(np.array(values), items="rounds")
    return Speed(statistics.median(values), interval.low, interval.high, len(values))

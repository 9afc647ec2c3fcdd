"""Evidence as a real run leaves it: a 30-block language model, two artifacts, claims with and without comparison."""

from __future__ import annotations

import hashlib
import math
import random
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from netweight.claim import Claim, Comparison
from netweight.evidence._input import ReportInput
from netweight.ledger import Ledger, Row

ORIGINAL = "SmolLM2-135M-Instruct"
SHAPES = {
    "self_attn.q_proj": (576, 576), "self_attn.k_proj": (192, 576), "self_attn.v_proj": (192, 576),
    "self_attn.o_proj": (576, 576), "mlp.gate_proj": (1536, 576), "mlp.up_proj": (1536, 576), "mlp.down_proj": (576, 1536),
}  # fmt: skip
ENVIRONMENT = {
    "device": "cpu", "cpu": "Some 2-core processor", "cores": 2, "threads": 2, "system": "Linux x86_64",
    "versions": {"python": "3.11.9", "netweight": "0.1.0", "torch": "2.13.0", "transformers": "5.23.0"},
    "commit": "06fb402a51d24bb9a7f1c0de0f6e6e0d0a6b8f11",
}  # fmt: skip
TEXTS = {"wikitext2/test": (62, 287_645), "pydoc-topics/test": (38, 41_210), "lambada/test": (500, 0)}


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def ledger(
    format_name: str, bits: float, error: float, *, seed: int = 0, fallbacks: int = 0, small: bool = False
) -> Ledger:
    draw = random.Random(seed)
    rows = [Row("model.embed_tokens", "embedding", (49152, 576), "left", bytes_before=56_623_104, bytes_after=56_623_104,
                reason="no step of the recipe selects embeddings")]  # fmt: skip
    for block in range(3 if small else 30):
        for kind, shape in list(SHAPES.items())[-2 if small else 0 :]:
            weights = shape[0] * shape[1]
            scale = error * (2.2 if kind == "mlp.down_proj" and block in (1, 28) else 1.0) * (1 + block / 60)
            rows.append(Row(
                f"model.layers.{block}.{kind}", "linear", shape, "quantized", format_name, ("gptq",), weights * 2,
                math.ceil(weights * bits / 8), scale * draw.uniform(0.9, 1.1), scale * draw.uniform(0.3, 0.8), 65_536,
                notes=("damping raised from 0.01 to 0.1: the Hessian was not positive definite",) if block < fallbacks and kind == "mlp.down_proj" else (),
                fallback=block < fallbacks and kind == "mlp.down_proj",
            ))  # fmt: skip
    rows.append(
        Row(
            "lm_head",
            "linear",
            (49152, 576),
            "left",
            tied_to="model.embed_tokens",
            reason="shares the weight of model.embed_tokens",
        )
    )
    return Ledger(tuple(rows))


def claim(
    metric: str, value: float | None, half: float | None, unit: str, subject: str, text: str = "", **more: Any
) -> Claim:
    documents, tokens = TEXTS.get(text, (0, 0))
    source, _, split = text.partition("/")
    data = (
        {"source": source, "split": split, "sha256": sha(text), "documents": documents}
        | ({"tokens": tokens} if tokens else {})
        if text
        else {}
    )
    low, high = (None, None) if half is None or value is None else (value - half * 0.94, value + half)
    given = {
        "n": documents or 1, "low": low, "high": high,
        "interval": "BCa bootstrap over documents, 2000 resamples" if low is not None else "none: nothing is random",
        "subject_sha256": sha(subject), "settings": {"task": metric, "window": 512, "stride": 256, "run": {"batch_size": 4, "reference": ORIGINAL}}, "data": data,
        "seeds": {"bootstrap": 0} if low is not None else {}, "environment": ENVIRONMENT,
        "command": f"netweight verify out/{subject.lower()} --metric {metric}", "better": "lower",
    }  # fmt: skip
    return Claim(metric=metric, value=value, unit=unit, subject=subject, **(given | more))


def against(difference: float, low: float, high: float, margin: float | None, verdict: Any = None) -> Comparison:
    return Comparison(ORIGINAL, difference, low, high, margin, verdict, 0.0004, "paired bootstrap over documents")


def original_claims() -> list[Claim]:
    return [
        claim("bytes_on_disk", 269_060_552, None, "B", ORIGINAL),
        claim("perplexity", 19.83, 0.91, "1", ORIGINAL, "wikitext2/test"),
        claim("perplexity", 9.417, 0.62, "1", ORIGINAL, "pydoc-topics/test"),
        claim("accuracy", 0.428, 0.044, "fraction", ORIGINAL, "lambada/test", better="higher"),
        claim("latency", 0.0412, 0.0013, "s", ORIGINAL, interval="median of 30 repetitions, bootstrap", n=30),
        claim(
            "energy", 1.84, None, "J", ORIGINAL, provenance="estimated", n=1, note="processor time times rated power"
        ),
    ]


def artifact_claims(name: str, size: int, worse: float, verdicts: tuple[Any, Any, Any]) -> list[Claim]:
    a, b, c = verdicts
    return [
        claim("bytes_on_disk", size, None, "B", name),
        claim("perplexity", 19.83 + worse, 0.97, "1", name, "wikitext2/test", comparison=against(worse, worse * 0.8, worse * 1.2, 1.0, a)),
        claim("perplexity", 9.417 + worse / 2, 0.66, "1", name, "pydoc-topics/test",
              comparison=against(worse / 2, worse * 0.3, worse * 0.8, 1.0, b)),
        claim("accuracy", 0.428 - worse / 40, 0.044, "fraction", name, "lambada/test", better="higher",
              comparison=against(-worse / 40, -worse / 40 - 0.021, -worse / 40 + 0.019, 0.03, c)),
        claim("kl_divergence", 0.021 * worse, 0.003, "nat/token", name, "wikitext2/test",
              comparison=against(0.021 * worse, 0.021 * worse - 0.003, 0.021 * worse + 0.003, None)),
        claim("latency", 0.0456, 0.0011, "s", name, interval="median of 30 repetitions, bootstrap", n=30,
              comparison=against(0.0044, 0.0031, 0.0058, None)),
        claim("energy", None, None, "J", name, provenance="unavailable", n=0, note="no energy counter on this machine"),
    ]  # fmt: skip


def artifact(name: str, title: str, size: int, ledger: Ledger, claims: list[Claim], **more: Any) -> ReportInput:
    format_name = ledger.quantized()[0].format if ledger.quantized() else ""
    calibration = {
        "source": "pydoc-topics/train",
        "samples": 128,
        "length": 512,
        "split": "train",
        "sha256": sha("train"),
        "tokens": 65_536,
    }
    manifest = {
        "model": {"name": ORIGINAL, "sha256": sha(ORIGINAL)}, "recipe_sha256": sha(title), "seed": 0,
        "bytes": {"before": 269_060_552, "after": size}, "formats": {format_name: len(ledger.quantized())},
        "versions": ENVIRONMENT["versions"], "calibration": calibration,
        "parity": {"layers": 210, "blocks": 30, "end": "bit-identical"},
    }  # fmt: skip
    recipe = f'seed = 0\n\n[calibration]\nsource = "pydoc-topics/train"\nsamples = 128\nlength = 512\n\n[[step]]\nuse = "gptq"\nformat = "{format_name}"\nskip = ["lm_head"]\n'
    overlap = [
        {"calibration": "pydoc-topics/train", "test": test, "n": 13, "shared": 0, "share": 0.0, "examples": []}
        for test in TEXTS
    ]
    run = {"seconds": 132.4, "peak_memory_bytes": 1_910_000_000}
    return replace(ReportInput(name, title, claims, ledger, manifest, recipe, run, overlap), **more)


@pytest.fixture(scope="session")
def full() -> list[ReportInput]:
    """As a real run of a 30-block model leaves it."""
    return sample()


@pytest.fixture
def two_artifacts() -> list[ReportInput]:
    """The same with 3 blocks and 2 layer kinds, quicker to draw."""
    return sample(small=True)


@pytest.fixture
def build() -> SimpleNamespace:
    """The builders of this file, and the original's name."""
    return SimpleNamespace(claim=claim, against=against, original=ORIGINAL)


def sample(*, small: bool = False) -> list[ReportInput]:
    """NVFP4 and 3 bits, side by side."""
    return [
        artifact("smollm2-nvfp4", "NVFP4", 117_001_216, ledger("nvfp4", 4.5, 0.09, seed=1, small=small),
                 original_claims() + artifact_claims("smollm2-nvfp4", 117_001_216, 0.62, ("non-inferior", "non-inferior", "undecided"))),
        artifact("smollm2-int3", "3 bits, groups of 64", 100_412_416, ledger("int3-g64", 3.296875, 0.19, seed=2, fallbacks=2, small=small),
                 original_claims() + artifact_claims("smollm2-int3", 100_412_416, 2.9, ("inferior", "undecided", "inferior"))),
    ]  # fmt: skip


@pytest.fixture
def overlapping() -> list[ReportInput]:
    return with_overlap(small=True)


def with_overlap(*, small: bool = False) -> list[ReportInput]:
    """The same, with test text that calibration has seen."""
    seen = {"calibration": "pydoc-topics/train", "test": "pydoc-topics/test", "n": 13, "shared": 118, "share": 0.0029,
            "examples": ["the following table summarizes the operator precedence in python from highest precedence to"]}  # fmt: skip
    return [
        replace(i, overlap=[seen, *(row for row in i.overlap if row["test"] != seen["test"])])
        for i in sample(small=small)
    ]

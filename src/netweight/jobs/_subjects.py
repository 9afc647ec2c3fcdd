"""Artifacts and originals as the judge sees them: callables and byte counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from netweight import models, runtime
from netweight.artifact import Artifact, open_artifact
from netweight.evaluate import Subject
from netweight.models import Model

TEXTS_AT_ONCE = 32


@dataclass(frozen=True)
class Opened:
    """Something to measure, the model behind it and, where it is one, the artifact."""

    subject: Subject
    model: Model
    artifact: Artifact | None


def is_artifact(source: Any) -> bool:
    """Is this an artifact, or the folder of one?"""
    return isinstance(source, Artifact) or (
        isinstance(source, str | Path) and (Path(source) / "netweight.json").is_file()
    )


def opened(source: Any, *, into: nn.Module | None = None) -> Opened:
    """A model or an artifact with all its weights in memory.

    Args:
      into: the architecture of an artifact that does not describe its own; others have no use for it.
    """
    if is_artifact(source):
        artifact = source if isinstance(source, Artifact) else open_artifact(source)
        loaded = runtime.load(artifact, into=None if artifact.describes_itself else into, kernels="off")
        name = artifact.path.resolve().name
        return Opened(_subject(name, artifact.sha256, loaded.model, artifact.nbytes), loaded.model, artifact)
    model = source if isinstance(source, Model) else models.load(source)
    models.materialize(model, "")
    stored = sum(model.weights.nbytes(name) for name in model.weights.names() if name not in model.tied)
    return Opened(_subject(model.name, model.sha256, model, stored), model, None)


def _subject(name: str, sha256: str, model: Model, on_disk: int) -> Subject:
    return Subject(
        name=name,
        sha256=sha256,
        logits=_logits(model.module) if model.kind == "causal-lm" else None,
        embed=_embed(model) if model.kind == "encoder" else None,
        classify=_classify(model.module) if model.kind == "module" else None,
        bytes_on_disk=on_disk,
        bytes_in_memory=runtime.bytes_in_memory(model.module),
    )


@contextmanager
def _measuring(module: nn.Module) -> Iterator[None]:
    """No gradients, and evaluation mode even where a live module is in the middle of training."""
    training = [part for part in module.modules() if part.training]
    for part in training:
        part.training = False
    try:
        with torch.inference_mode():
            yield
    finally:
        for part in training:
            part.training = True


def _logits(module: nn.Module) -> Callable[[Tensor, Tensor | None], Tensor]:
    def logits(ids_BT: Tensor, mask_BT: Tensor | None) -> Tensor:
        with _measuring(module):
            return module(input_ids=ids_BT, attention_mask=mask_BT, use_cache=False).logits

    return logits


def _classify(module: nn.Module) -> Callable[[Tensor], Tensor]:
    def classify(inputs: Tensor) -> Tensor:
        with _measuring(module):
            return models.first_tensor(module(inputs))

    return classify


def _embed(model: Model) -> Callable[[list[str]], Tensor]:
    """Mean of the last hidden states over real tokens, as the sentence encoders here were trained."""
    tokenizer = model.tokenizer()
    longest = min(tokenizer.model_max_length, model.longest or tokenizer.model_max_length)

    def embed(texts: list[str]) -> Tensor:
        parts = []
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            some = texts[start : start + TEXTS_AT_ONCE]
            found = tokenizer(some, padding=True, truncation=True, max_length=longest, return_tensors="pt")
            with _measuring(model.module):
                hidden_BTD = model.module(**found).last_hidden_state
            mask_BT1 = found["attention_mask"].unsqueeze(-1).to(hidden_BTD.dtype)
            parts.append((hidden_BTD * mask_BT1).sum(1) / mask_BT1.sum(1))
        return torch.cat(parts)

    return embed

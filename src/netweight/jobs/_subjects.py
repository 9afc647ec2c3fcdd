"""Artifacts and originals as the judge sees them: callables and byte counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from netweight import models, runtime
from netweight.artifact import Artifact, open_artifact
from netweight.evaluate import Subject
from netweight.models import Model

TEXTS_AT_ONCE = 32


def is_artifact(source: str | Path) -> bool:
    return (Path(source) / "netweight.json").is_file()


def opened(source: Any, *, into: nn.Module | None = None) -> tuple[Subject, Model, Artifact | None]:
    """What to measure, with the model behind it and, where it is one, the artifact."""
    if isinstance(source, Artifact) or (isinstance(source, str | Path) and is_artifact(source)):
        artifact = source if isinstance(source, Artifact) else open_artifact(source)
        loaded = runtime.load(artifact, into=into)
        name = artifact.path.resolve().name
        return _subject(name, artifact.sha256, loaded.model, artifact.nbytes), loaded.model, artifact
    model = source if isinstance(source, Model) else models.load(source)
    models.materialize(model, "")
    stored = sum(model.weights.nbytes(name) for name in model.weights.names() if name not in model.tied)
    return _subject(model.name, model.sha256, model, stored), model, None


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


def _logits(module: nn.Module) -> Any:
    def logits(ids_BT: Tensor, mask_BT: Tensor | None) -> Tensor:
        with torch.inference_mode():
            return module(input_ids=ids_BT, attention_mask=mask_BT, use_cache=False).logits

    return logits


def _classify(module: nn.Module) -> Any:
    def classify(inputs: Tensor) -> Tensor:
        with torch.inference_mode():
            return models.first_tensor(module(inputs))

    return classify


def _embed(model: Model) -> Any:
    """Mean of the last hidden states over real tokens, as the sentence encoders here were trained."""
    tokenizer = model.tokenizer()

    def embed(texts: list[str]) -> Tensor:
        parts = []
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            found = tokenizer(texts[start : start + TEXTS_AT_ONCE], padding=True, truncation=True, return_tensors="pt")
            with torch.inference_mode():
                hidden = model.module(**found).last_hidden_state
            mask = found["attention_mask"].unsqueeze(-1).to(hidden.dtype)
            parts.append((hidden * mask).sum(1) / mask.sum(1))
        return torch.cat(parts)

    return embed

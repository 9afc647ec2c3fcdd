"""run: generate text with an artifact, saying first which path its layers take."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from netweight import models, runtime
from netweight.artifact import Artifact
from netweight.jobs._subjects import is_artifact
from netweight.models import Model


class Generation(Iterator[str]):
    """Pieces of text as they come; ``path`` says beforehand how the layers are computed."""

    def __init__(self, pieces: Iterator[str], path: str) -> None:
        self._pieces, self.path = pieces, path

    def __next__(self) -> str:
        return next(self._pieces)


def run(artifact: Any, *, prompt: str, max_tokens: int = 64, temperature: float = 0.0, seed: int = 0) -> Generation:
    """See ``netweight.run``."""
    if isinstance(artifact, Artifact) or (isinstance(artifact, str | Path) and is_artifact(artifact)):
        loaded = runtime.load(artifact)
        model, path = loaded.model, loaded.summary()
    else:
        model = artifact if isinstance(artifact, Model) else models.load(artifact)
        models.materialize(model, "")
        path = "an original, not an artifact: float32 weights"
    pieces = runtime.generate(model, prompt, max_tokens=max_tokens, temperature=temperature, seed=seed)
    return Generation(pieces, path)

"""run: generate text with an artifact, saying first which path its layers take."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from netweight import models, runtime
from netweight.artifact import Artifact, open_artifact
from netweight.errors import SettingsError
from netweight.jobs._subjects import is_artifact
from netweight.models import Model
from netweight.runtime import kernels


class Generation(Iterator[str]):
    """Pieces of text as they come; ``path`` says beforehand how the layers are computed."""

    def __init__(self, pieces: Iterator[str], path: str) -> None:
        self._pieces, self.path = pieces, path

    def __next__(self) -> str:
        return next(self._pieces)


def run(
    artifact: Any,
    *,
    prompt: str,
    max_tokens: int = 64,
    temperature: float = 0.0,
    seed: int = 0,
    threads: int = 0,
    require_kernels: bool = False,
) -> Generation:
    """See ``netweight.run``."""
    runtime.check_request(prompt, max_tokens=max_tokens, temperature=temperature, seed=seed)
    if threads < 0:
        raise SettingsError(f"threads = {threads}: must be at least 1, or 0 for all cores")
    if kernels.missing() is None:
        kernels.set_threads(threads or torch.get_num_threads())
    model, path = _opened(artifact, require_kernels)
    pieces = runtime.generate(model, prompt, max_tokens=max_tokens, temperature=temperature, seed=seed)
    return Generation(pieces, path)


def _opened(source: Any, require_kernels: bool) -> tuple[Model, str]:
    """A language model with its weights in memory, and how they are used; what writes no text is refused before loading."""
    if is_artifact(source):
        artifact = source if isinstance(source, Artifact) else open_artifact(source)
        runtime.check_kind(str(artifact.path), artifact.manifest.model.get("kind", ""))
        loaded = runtime.load(artifact, kernels="require" if require_kernels else "auto")
        return loaded.model, f"{loaded.summary()}; {runtime.decode_path(loaded.model)}"
    model = source if isinstance(source, Model) else models.load(source)
    runtime.check_kind(model.name, model.kind)
    models.materialize(model, "")
    return model, "an original, not an artifact: float32 weights"

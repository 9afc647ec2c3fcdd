"""run: text from a language model, or masks of a folder of pictures; how the layers are computed is always said."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from netweight import models, runtime
from netweight.artifact import Artifact, open_artifact
from netweight.errors import ArtifactError, SettingsError
from netweight.jobs import _deployed, _masks, _runs
from netweight.jobs._masks import Segmented
from netweight.jobs._subjects import is_artifact
from netweight.models import Model
from netweight.progress import Progress, silent
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
    prompt: str | None = None,
    images: str | Path | None = None,
    masks_out: str | Path | None = None,
    threshold: float = 0.5,
    max_tokens: int = 64,
    temperature: float = 0.0,
    seed: int = 0,
    threads: int = 0,
    require_kernels: bool = False,
    progress: Progress | None = None,
) -> Generation | Segmented:
    """See ``netweight.run``."""
    _check_one_of(prompt, images, masks_out)
    _runs.refuse_begun(artifact)
    if images is not None and masks_out is not None:
        if max_tokens != 64 or temperature:  # anything but the defaults
            raise SettingsError("max_tokens and temperature are for text, and pictures are asked for; leave them out")
        return _masks.segmented(
            artifact,
            images,
            masks_out,
            threshold=threshold,
            threads=threads,
            require_kernels=require_kernels,
            progress=progress or silent,
        )
    prompt = prompt or ""
    runtime.check_request(prompt, max_tokens=max_tokens, temperature=temperature, seed=seed)
    if threads < 0:
        raise SettingsError(f"threads = {threads}: must be at least 1, or 0 for all cores")
    if kernels.missing() is None:
        kernels.set_threads(threads or torch.get_num_threads())
    model, path = _opened(artifact, require_kernels)
    pieces = runtime.generate(model, prompt, max_tokens=max_tokens, temperature=temperature, seed=seed)
    return Generation(pieces, path)


def _check_one_of(prompt: str | None, images: str | Path | None, masks_out: str | Path | None) -> None:
    """Raises: SettingsError: neither text nor pictures, both, or pictures without a place for masks."""
    ways = "--prompt TEXT for a language model, or --images DIR --masks-out DIR for a segmentation net"
    if prompt is None and images is None:
        raise SettingsError(
            f"{'masks_out without images' if masks_out is not None else 'nothing to work on'}; give {ways}"
        )
    if prompt is not None and (images is not None or masks_out is not None):
        raise SettingsError(f"a prompt and pictures at once; give {ways}")
    if images is not None and masks_out is None:
        raise SettingsError("images without masks_out: name the folder for the masks with --masks-out DIR")


def _opened(source: Any, require_kernels: bool) -> tuple[Model, str]:
    """A language model with its weights in memory, and how they are used; what writes no text is refused before loading."""
    if _deployed.segments(source):
        raise ArtifactError(f"{_named(source)} is {_deployed.NO_TEXT}")
    if is_artifact(source):
        artifact = source if isinstance(source, Artifact) else open_artifact(source)
        runtime.check_kind(str(artifact.path), artifact.manifest.model.get("kind", ""))
        loaded = runtime.load(artifact, kernels="require" if require_kernels else "auto")
        return loaded.model, f"{loaded.summary()}; {runtime.decode_path(loaded.model)}"
    model = source if isinstance(source, Model) else models.load(source)
    runtime.check_kind(model.name, model.kind)
    models.materialize(model, "")
    return model, "an original, not an artifact: float32 weights"


def _named(source: Any) -> Any:
    return source.path if isinstance(source, Artifact) else source

"""An artifact ready for use: its module filled, its tokenizer, and for every layer the path its weight takes."""

from __future__ import annotations

import copy
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from netweight import models
from netweight.artifact import Artifact, DecodedSource, open_artifact
from netweight.errors import ArtifactError, CorruptError
from netweight.models import Model

DECODED = "decoded once at load to float32"


@dataclass(frozen=True)
class Loaded:
    """A model in memory. ``paths`` tells for each quantized layer how its weight is used when the model runs."""

    model: Model
    artifact: Artifact
    paths: Mapping[str, str]
    load_s: float

    @property
    def module(self) -> nn.Module:
        return self.model.module

    def summary(self) -> str:
        """One line that hides nothing: how many layers take which path, and what that means for speed and memory."""
        if not self.paths:
            return "no layer is quantized"
        by_path = Counter((self.artifact.manifest.layers[name].format, path) for name, path in self.paths.items())
        listed = "; ".join(f"{count} layers {format}: {path}" for (format, path), count in sorted(by_path.items()))
        slow = any(path == DECODED for path in self.paths.values())
        caution = " (no packed kernel: speed and memory are those of the float32 model)" if slow else ""
        return f"{listed}{caution}; loaded in {self.load_s:.1f} s"


def load(folder: str | Path | Artifact, *, into: nn.Module | None = None, check: bool = True) -> Loaded:
    """Fill a model from an artifact.

    Args:
      folder: the artifact.
      into: the architecture of an artifact that has no config.json of its own (a plain module); it is not changed.
      check: hash the files first.
    Raises:
      ArtifactError: not an artifact, or one of a plain module and ``into`` is absent.
      CorruptError: a file differs from the manifest.
    """
    begun = time.perf_counter()
    artifact = folder if isinstance(folder, Artifact) else open_artifact(folder)
    if check and (wrong := artifact.check_files()):
        raise CorruptError(f"{artifact.path}: {'; '.join(wrong)}; make or fetch the artifact again")
    model = _skeleton(artifact, into)
    models.materialize(model, "")
    model.module.eval()
    return Loaded(model, artifact, dict.fromkeys(artifact.manifest.layers, DECODED), time.perf_counter() - begun)


def _skeleton(artifact: Artifact, into: nn.Module | None) -> Model:
    if into is not None:
        return models.with_weights(models.load(copy.deepcopy(into)), lambda s, w: DecodedSource(artifact, s, w))
    if not (artifact.path / "config.json").is_file():
        raise ArtifactError(
            f"{artifact.path} holds the weights of a plain module; pass the module's architecture: load(folder, into=module)"
        )
    return models.from_folder(artifact.path, lambda s, w: DecodedSource(artifact, s, w))


def bytes_in_memory(module: nn.Module) -> int:
    """Bytes of parameters and buffers as the module holds them now, shared ones once."""
    seen: dict[int, int] = {}
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.device != torch.device("meta"):
            seen[tensor.data_ptr()] = tensor.nbytes
    return sum(seen.values())

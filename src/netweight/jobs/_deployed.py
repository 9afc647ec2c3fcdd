"""A trained net ready for pictures: its packed artifact where there is one, else the weights as they were trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from netweight import models, runtime
from netweight.artifact import Artifact, open_artifact
from netweight.errors import ArtifactError, CorruptError, KernelError
from netweight.jobs import _pack, _runs
from netweight.jobs._runs import Run
from netweight.jobs._subjects import is_artifact

NO_TEXT = "a segmentation net: it reads pictures and writes masks (--images DIR --masks-out DIR), no text"


@dataclass(frozen=True)
class Deployed:
    """A net in memory. ``path`` says in words how its layers are computed, ``described`` what ``models.nets`` builds it from."""

    name: str
    module: nn.Module
    path: str
    described: Mapping[str, Any]

    @property
    def image(self) -> int:
        """Pixels along a side of what it reads."""
        return int(self.described["image"])

    def example(self) -> torch.Tensor:
        """(1, channels, image, image) float32, see ``noise``."""
        return noise(self.described)


def noise(described: Mapping[str, Any]) -> torch.Tensor:
    """(1, channels, image, image) float32 for a net by its description, always the same."""
    generator = torch.Generator().manual_seed(0)
    side = int(described["image"])
    return torch.randn(1, int(described["channels"]), side, side, generator=generator)


def segments(source: Any) -> bool:
    """Is this a trained run, or an artifact of one of ``models.nets``?"""
    return _runs.is_run(source) or (is_artifact(source) and "net" in artifact_of(source).manifest.model)


def artifact_of(source: Any) -> Artifact:
    """An artifact, opened where it is a folder."""
    return source if isinstance(source, Artifact) else open_artifact(source)


def packed_of(run: Run) -> Artifact | None:
    """The run's packed artifact; None where it has none. Raises: CorruptError: it is not the one that was made of this net."""
    if "sha256" not in run.training["packed"]:
        return None
    found = open_artifact(run.path / _pack.PACKED)
    if found.sha256 != run.training["packed"]["sha256"]:
        raise CorruptError(
            f"{found.path} is not what {run.name} was packed to: its hash is {found.sha256[:12]}, the run says "
            f"{run.training['packed']['sha256'][:12]}; train again in a new folder"
        )
    return found


def deployed(source: Any, *, require_kernels: bool = False) -> Deployed:
    """A run folder, or an artifact of one of ``models.nets``.

    Args:
      require_kernels: an error where a layer has no packed kernel, and kernels even where torch is faster.
    Raises:
      ArtifactError: neither. KernelError: ``require_kernels``, and a layer, or the whole run, has none.
    """
    if _runs.is_run(source):
        run = _runs.read(source)
        found = packed_of(run)
        if found is None and require_kernels:
            raise KernelError(f"{run.name} has no packed form: {run.training['packed']['reason']}")
        return trained(run) if found is None else _packed(found, f"{run.name}/packed", require_kernels)
    if not is_artifact(source):
        raise ArtifactError(f"{source} is neither a trained run nor an artifact; make one with `netweight train`")
    found = artifact_of(source)
    if "net" not in found.manifest.model:
        kind = found.manifest.model.get("kind", "")
        what = (
            "a language model, which writes text: give it --prompt TEXT"
            if kind == "causal-lm"
            else "no net of models.nets"
        )
        raise ArtifactError(f"{found.path} is {what}; masks are made by what `netweight train` leaves")
    return _packed(found, found.path.resolve().name, require_kernels)


def _packed(artifact: Artifact, name: str, require_kernels: bool) -> Deployed:
    loaded = runtime.load(artifact, kernels="require" if require_kernels else "auto")
    return Deployed(name, loaded.module, loaded.summary(), artifact.manifest.model["net"])


def trained(run: Run) -> Deployed:
    """A run's net as it was simulated while it was trained."""
    net, quantized = _runs.net_of(run)
    simulated = f", {len(quantized.layers())} layers rounding as they were trained" if quantized.layers() else ""
    reason = run.training["packed"].get("reason", "asked for as it was trained")
    return Deployed(run.name, net, f"float32 weights{simulated}; not packed: {reason}", models.nets.describe(net))

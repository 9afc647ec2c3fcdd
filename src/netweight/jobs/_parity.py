"""The bit-parity gate: the file, read back, must compute what the simulation computed, layer by layer and in the end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from netweight import models
from netweight.artifact import Artifact, DecodedSource
from netweight.compress import digest_of, parts, pool, return_memory
from netweight.errors import ParityError
from netweight.models import Model
from netweight.progress import Progress


def check(
    model: Model, artifact: Artifact, batches: Sequence[Any], *, threads: int, progress: Progress
) -> dict[str, int]:
    """Read the artifact back and compare hashes: every layer's decoded weight, every part's output, the end.

    Args:
      model: what was compressed; only its shape is used, never its weights.
      batches: the calibration batches; the first is run through the model as read back.
    Returns:
      How many layers and parts were compared, all equal.
    Raises:
      ParityError: the first difference, by layer or part.
    """
    wrong = artifact.check_files()
    if wrong:
        raise ParityError(f"{artifact.path}: {wrong[0]}")
    check_layers(artifact, threads=threads, progress=progress)
    if not batches:
        return {"layers": len(artifact.manifest.layers), "parts": 0}
    reread = from_artifact(model, artifact)
    total = len(artifact.manifest.parts)
    # outputs are computed as they are asked for: with one thread, as in the simulation
    with torch.no_grad(), pool(1):
        for done, (name, output) in enumerate(_run(reread, batches[0]), 1):
            if digest_of(output) != artifact.manifest.parts[name]:
                raise ParityError(
                    f"{name or 'the module'}: what was written does not compute what was simulated, though every layer's "
                    "weight is equal; a tensor that is not quantized differs. Nothing was published"
                )
            progress("check the file's outputs", done, total, name)
    return {"layers": len(artifact.manifest.layers), "parts": total}


def check_layers(artifact: Artifact, *, threads: int, progress: Progress) -> None:
    """Decode every layer from the file. Raises: ParityError: one differs from what was simulated."""
    layers = artifact.manifest.layers

    def one(name: str) -> tuple[str, str]:
        return name, digest_of(artifact.qtensor(name).decode())

    with pool(threads) as workers:
        for done, (name, digest) in enumerate(workers.map(one, layers), 1):
            if digest != layers[name].sha256:
                raise ParityError(
                    f"{name}: the weight read back from {artifact.path} is not the one that was simulated"
                )
            progress("check the file's layers", done, len(layers), name)


def from_artifact(model: Model, artifact: Artifact) -> Model:
    """The same module, emptied, to be filled from the artifact."""
    if not model.live:
        models.release(model, "")
    found = models.with_weights(
        model, lambda s, w: DecodedSource(artifact, s, w), module="copy" if model.live else "same"
    )
    return artifact.with_rounded_inputs(found)


def _run(model: Model, batch: Any) -> Iterator[tuple[str, Tensor]]:
    """(part, output) one after the other, with one part's weights in memory at a time."""
    names = parts(model)
    if model.named_blocks:
        models.materialize(model, "")
        yield from ((name or names[-1], output) for name, output in models.outputs_of_parts(model, batch))
        return
    inputs = models.capture_block_inputs(model, [batch])[0]
    if names == ("",):
        models.materialize(model, "")
        yield "", models.first_tensor(models.run_block(model.module, *inputs.call(0))[0])
        return
    hidden = inputs.hidden
    yield names[0], hidden
    for index, name in enumerate(names[1:-1]):
        models.materialize(model, name)
        hidden = models.run_block(model.module.get_submodule(name), *inputs.call(index, hidden))[0]
        models.release(model, name)
        return_memory()
        yield name, hidden
    yield names[-1], models.run_tail(model, hidden[:1])

"""An artifact ready for use: its module filled, its tokenizer, and for every layer the path its weight takes."""

from __future__ import annotations

import copy
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from netweight import formats, models
from netweight.artifact import Artifact, DecodedSource, open_artifact
from netweight.errors import ArtifactError, CorruptError, KernelError, SettingsError
from netweight.models import Model
from netweight.runtime import kernels
from netweight.runtime._linear import PackedEmbedding, replacement
from netweight.words import counted

DECODED = "decoded once at load to float32"
Kernels = Literal["auto", "require", "exact", "off"]
CHOICES = ("auto", "require", "exact", "off")


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

    @property
    def decoded(self) -> tuple[str, ...]:
        """Quantized layers without a packed kernel."""
        return tuple(name for name, path in self.paths.items() if path.startswith(DECODED))

    def summary(self) -> str:
        """One line that hides nothing: how many layers take which path, and what that means for speed and memory."""
        if not self.paths:
            return "no layer is quantized"
        by_path = Counter((self.artifact.manifest.layers[name].format, path) for name, path in self.paths.items())
        listed = "; ".join(f"{count} layers {format}: {path}" for (format, path), count in sorted(by_path.items()))
        slow = len(self.decoded)
        share = "" if slow == len(self.paths) else f" of {slow} layers"
        caution = f" (speed and memory{share} are those of the float32 model)" if slow else ""
        return f"{listed}{caution}; loaded in {self.load_s:.1f} s"


def load(
    folder: str | Path | Artifact, *, into: nn.Module | None = None, check: bool = True, kernels: Kernels = "auto"
) -> Loaded:
    """Fill a model from an artifact.

    Args:
      folder: the artifact.
      into: the architecture of an artifact that does not describe its own (a plain module); it is not changed.
      check: hash the files first.
      kernels: ``"auto"`` keeps weights packed wherever a kernel exists and is not the slower way (see ``_slower``), and decodes the
        others; ``"require"`` takes every kernel there is, and a layer without one is an error; ``"exact"`` likewise takes every
        kernel, with float32 activations, for verification; ``"off"`` decodes all.
    Raises:
      ArtifactError: not an artifact, or one of a plain module and ``into`` is absent.
      CorruptError: a file differs from the manifest.
      KernelError: ``"require"``, and a layer has no kernel; the first is named.
    """
    if kernels not in CHOICES:
        raise SettingsError(f"kernels = {kernels!r}: must be one of {', '.join(CHOICES)}")
    begun = time.perf_counter()
    artifact = folder if isinstance(folder, Artifact) else open_artifact(folder)
    paths = dict.fromkeys(artifact.manifest.layers, DECODED)
    with _checked(artifact) if check else nullcontext(), artifact.held_open():
        model = _skeleton(artifact, into)
        if kernels != "off":
            model, paths = _packed(model, artifact, kernels)
        if kernels == "require" and (slow := [(n, path) for n, path in paths.items() if path.startswith(DECODED)]):
            raise KernelError(
                f"no packed kernel for {counted(len(slow), 'layer')}, the first is {slow[0][0]}: {slow[0][1]}"
            )
        models.materialize(model, "")
    model.module.eval()  # an architecture may come in training mode, with dropout and batch statistics on
    return Loaded(model, artifact, paths, time.perf_counter() - begun)


@contextmanager
def _checked(artifact: Artifact) -> Iterator[None]:
    """The files are hashed meanwhile. Whatever else goes wrong inside, a corrupt file is the reason that is given."""
    with ThreadPoolExecutor(1, "netweight-check") as thread:
        found = thread.submit(artifact.check_files)
        try:
            yield
        finally:
            if wrong := found.result():
                raise CorruptError(f"{artifact.path}: {'; '.join(wrong)}; make or fetch the artifact again")


def _packed(model: Model, artifact: Artifact, wanted: Kernels) -> tuple[Model, dict[str, str]]:
    """The model with packed modules in the place of the layers that have kernels, and every layer's path."""
    exact = wanted == "exact"
    if (why := kernels.missing()) is not None:
        return model, dict.fromkeys(artifact.manifest.layers, f"{DECODED} ({why})")
    path = f"{kernels.isa()} kernel" + (", float32 activations" if exact else "")
    paths, done, changed = {}, set(), set()
    for layer in artifact.manifest.layers:
        arrays, format, shape = artifact.stored(layer)
        owner = models.weight_name(layer)
        sharing = [owner, *(name for name, first in model.tied.items() if first == owner)]
        modules = [model.module.get_submodule(name.rpartition(".")[0]) for name in sharing]
        why = kernels.unsupported(format) or _odd(model, layer, shape)
        why = why or (_slower(model.kind, modules[0]) if wanted == "auto" else None)
        packed = None if why else kernels.pack(arrays, format, shape)
        made = [replacement(module, packed, exact=exact) for module in modules] if packed else [None]
        if any(module is None for module in made):
            paths[layer] = f"{DECODED} ({why or f'no kernel for {type(modules[0]).__name__}'})"
            continue
        for name, module in zip(sharing, made, strict=True):
            model.module.set_submodule(name.rpartition(".")[0], module)  # pyright: ignore[reportArgumentType]
        done |= set(sharing)
        changed |= set(made)
        rounded = artifact.manifest.layers[layer].activations
        paths[layer] = f"{path}, inputs rounded to {rounded}" if rounded else path
    models.one_by_one(model.module, changed.__contains__)
    tied = {name: owner for name, owner in model.tied.items() if name not in done}
    return replace(model, tied=tied), paths


def _slower(kind: str, module: nn.Module) -> str | None:
    """Why the kernel is slower than torch's product with the decoded weight; None where it is not known to be.

    Inputs that are rounded in blocks of channels stay floats, so that the kernel's product is one of floats too and decodes the
    weight again and again, which only memory is saved by. With one row of inputs at a time, as in writing text, that saving
    counts. A convolution has a row for each place, a net of pictures hundreds of them: there torch's product is the faster one
    (``benchmarks/deployed.py`` measures both).
    """
    name = models.rounded_inputs(module)
    if not name or formats.activations(name).levels:
        return None
    if kind == "module" or isinstance(module, nn.Conv2d):
        return f"torch's product of floats is faster than the kernel's; inputs rounded to {name}"
    return None


def _odd(model: Model, layer: str, shape: tuple[int, int]) -> str | None:
    """Why the stored matrix is not what the layer's own arithmetic multiplies with; None when it is."""
    if not layer:
        return "the model itself is the layer"
    module = model.module.get_submodule(layer)
    if models.matrix_shape(module) != shape:
        return f"its weight is kept as {shape[0]} x {shape[1]}"
    return None


def _skeleton(artifact: Artifact, into: nn.Module | None) -> Model:
    into = artifact.net() if into is None else into
    if into is not None:
        found = models.with_weights(models.load(copy.deepcopy(into)), lambda s, w: DecodedSource(artifact, s, w))
        return artifact.with_rounded_inputs(found)
    if not (artifact.path / "config.json").is_file():
        raise ArtifactError(
            f"{artifact.path} holds the weights of a plain module; pass the module's architecture: load(folder, into=module)"
        )
    return artifact.with_rounded_inputs(models.from_folder(artifact.path, lambda s, w: DecodedSource(artifact, s, w)))


def bytes_in_memory(module: nn.Module) -> int:
    """Bytes of parameters and buffers as the module holds them now, shared ones once."""
    seen: dict[int, int] = {}
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.device != torch.device("meta"):
            seen[tensor.data_ptr()] = tensor.nbytes
    return sum(seen.values())


def bytes_per_step(model: Model) -> int:
    """Bytes of weights that one further token (or one input) reads: all but an embedding of which one row is looked up."""
    looked_up = {id(part) for part in model.module.modules() if isinstance(part, nn.Embedding | PackedEmbedding)}
    seen: dict[int, int] = {}
    for part in model.module.modules():
        if id(part) in looked_up:
            continue
        for tensor in (*part.parameters(recurse=False), *part.buffers(recurse=False)):
            seen[tensor.data_ptr()] = tensor.nbytes
    return sum(seen.values())

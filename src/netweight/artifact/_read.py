"""Read an artifact: its manifest, its layers, its decoded weights as a source that a model can be filled from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from netweight import formats, models
from netweight import recipe as recipes
from netweight.artifact import _layout, _manifest
from netweight.artifact._manifest import LayerRecord, Manifest
from netweight.artifact._store import TYPES, opened
from netweight.claim import Claim, read_claims
from netweight.errors import ArtifactError, CorruptError
from netweight.formats import Format, QTensor
from netweight.ledger import Ledger
from netweight.provenance import sha256_of_file
from netweight.recipe import Recipe

WEIGHTS = ".safetensors"
READ = (".safetensors", ".bin", ".json", ".jinja", ".model", ".py")  # what a reader of models would use if it lay there
ALIGNMENT = 64  # bytes; in a safetensors file a tensor begins where the one before it ends


@dataclass(frozen=True)
class Artifact:
    """A folder with a compressed model and the record of how it came about."""

    path: Path
    manifest: Manifest

    @cached_property
    def ledger(self) -> Ledger:
        return Ledger.from_jsonl(self._text("ledger.jsonl"))

    @cached_property
    def recipe(self) -> Recipe:
        return recipes.load(self.path / "recipe.toml")

    @property
    def claims(self) -> list[Claim]:
        return read_claims(self.path / "claims.jsonl")

    @property
    def run(self) -> dict:
        """Times and memory of the run that made it; empty when unknown."""
        path = self.path / "run.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    @property
    def sha256(self) -> str:
        """Hash of the manifest, which holds the hash of every other file."""
        return sha256_of_file(self.path / _manifest.NAME)

    @property
    def nbytes(self) -> int:
        """Bytes of the weight files on disk."""
        return sum(path.stat().st_size for path in self.path.glob("*.safetensors"))

    @cached_property
    def _files(self) -> Mapping[str, Path]:
        """Tensor name -> the file it is in."""
        index: dict[str, Path] = {}
        for name in sorted(name for name in self.manifest.files if name.endswith(WEIGHTS)):
            with self._opened(name) as file:
                index |= dict.fromkeys(file.keys(), self.path / name)
        return index

    @cached_property
    def _held(self) -> dict[str, Any]:
        """Files that stay open for now, by name."""
        return {}

    @contextmanager
    def held_open(self) -> Iterator[None]:
        """Inside, the weight files stay open: for a reader of many tensors, since opening a file means reading all its names."""
        names = sorted({path.name for path in self._files.values()})
        with ExitStack() as stack:
            stack.callback(self._held.clear)
            for name in names:
                self._held[name] = stack.enter_context(self._opened(name))
            yield

    @contextmanager
    def _opened(self, name: str) -> Iterator[Any]:
        if name in self._held:
            yield self._held[name]
            return
        try:
            with opened(self.path / name) as file:
                yield file
        except (OSError, SafetensorError) as error:
            raise CorruptError(f"cannot read {self.path / name}: {error}") from error

    def tensor(self, name: str) -> Tensor:
        """One tensor as stored, where torch would have put it: on some processors the last bit of a sum depends on that.

        Raises: CorruptError: it is missing.
        """
        if name not in self._files:
            raise CorruptError(f"{self.path}: {name} is missing")
        with self._opened(self._files[name].name) as file:
            found = file.get_tensor(name)
        return found.clone() if found.data_ptr() % ALIGNMENT else found

    def stored(self, layer: str) -> tuple[dict[str, Tensor], Format, tuple[int, int]]:
        """One layer's packed tensors as ``formats.pack`` gives them, their format, and the shape of the matrix.

        Raises:
          ArtifactError: the layer is not quantized. CorruptError: a tensor is missing.
        """
        if layer not in self.manifest.layers:
            raise ArtifactError(f"{layer!r} is not quantized in {self.path}")
        record = self.manifest.layers[layer]
        format = formats.get(record.format)
        layout: _layout.Layout = "netweight" if self.manifest.layout == "netweight" else "compressed-tensors"
        tensors = {key: self.tensor(key) for key in _layout.keys(layer, format, layout) if key in self._files}
        return _layout.arrays_of(layer, tensors, format, layout), format, record.shape

    def qtensor(self, layer: str) -> QTensor:
        """One layer's quantized matrix.

        Raises:
          ArtifactError: the layer is not quantized. CorruptError, FormatError: its tensors are missing or misshapen.
        """
        return formats.unpack(*self.stored(layer))

    @property
    def describes_itself(self) -> bool:
        """Can its architecture be built without anybody's own code: a model of transformers, or one of ``models.nets``?"""
        return (self.path / "config.json").is_file() or "net" in self.manifest.model

    def net(self) -> nn.Module | None:
        """The architecture of one of ``models.nets``, with its first weights; None where the artifact is of something else."""
        described = self.manifest.model.get("net")
        return None if described is None else models.nets.build(**described)

    def with_rounded_inputs(self, model: models.Model) -> models.Model:
        """The model again, whose layers from now on round what they read as the manifest says."""
        for layer, record in self.manifest.layers.items():
            if record.activations:
                models.round_inputs(model.module.get_submodule(layer), record.activations)
        return model

    def plain_names(self) -> tuple[str, ...]:
        """Tensors that are stored as they are used."""
        layout: _layout.Layout = "netweight" if self.manifest.layout == "netweight" else "compressed-tensors"
        packed = {
            key
            for layer, record in self.manifest.layers.items()
            for key in _layout.keys(layer, formats.get(record.format), layout)
        }
        return tuple(name for name in self._files if name not in packed)

    def check_files(self) -> list[str]:
        """What differs from the manifest: one line per changed or missing file, or file that would be read and is not in it."""
        wrong = []
        for name, want in self.manifest.files.items():
            path = self.path / name
            if not path.is_file():
                wrong.append(f"{name} is missing")
            elif sha256_of_file(path) != want:
                wrong.append(f"{name} differs from the manifest")
        known = {*self.manifest.files, *_manifest.EVIDENCE}
        found = sorted(path.name for path in self.path.iterdir() if path.suffix in READ)
        wrong += [f"{name} is not in the manifest" for name in found if name not in known]
        return wrong

    def _text(self, name: str) -> str:
        try:
            return (self.path / name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CorruptError(f"cannot read {self.path / name}: {error}") from error


class DecodedSource:
    """An artifact as a source of weights: quantized layers are decoded when asked for. A ``models.WeightSource``."""

    def __init__(self, artifact: Artifact, shapes: Mapping[str, tuple[int, ...]], to_stored_shape) -> None:
        """``to_stored_shape(layer, matrix_OI)`` turns a matrix into the module's own weight; ``shapes`` name every tensor."""
        self._artifact, self._shapes, self._to_weight = artifact, shapes, to_stored_shape
        self.files: tuple[Path, ...] = tuple(sorted(artifact.path.glob("*.safetensors")))
        self._layers = {models.weight_name(layer): layer for layer in artifact.manifest.layers}
        held = {*self._layers, *artifact.plain_names()}
        self._names = tuple(name for name in shapes if name in held)

    def names(self) -> tuple[str, ...]:
        return self._names

    def shape(self, name: str) -> tuple[int, ...]:
        return self._shapes[name]

    def nbytes(self, name: str) -> int:
        record = self._record(name)
        return formats.get(record.format).nbytes(record.shape) if record else self._artifact.tensor(name).nbytes

    def stored_as(self, name: str) -> str:
        record = self._record(name)
        return record.format if record else TYPES[self._artifact.tensor(name).dtype]

    def load(self, name: str) -> Tensor:
        if (layer := self._layers.get(name)) is not None:
            return self._to_weight(layer, self._artifact.qtensor(layer).decode(torch.float32))
        return self._artifact.tensor(name)

    def _record(self, name: str) -> LayerRecord | None:
        layer = self._layers.get(name)
        return None if layer is None else self._artifact.manifest.layers[layer]


def open_artifact(path: str | Path) -> Artifact:
    """Raises: ArtifactError: not an artifact. CorruptError: its manifest is damaged."""
    folder = Path(path)
    return Artifact(folder, _manifest.read(folder))

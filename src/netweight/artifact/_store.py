"""Work in progress: finished parts on disk, so that an interrupted run goes on where it stopped and ends in the same bytes.

``OUT.partial/`` holds ``state.json`` (whose work it is), per finished part ``part-N.safetensors`` and ``part-N.json``, and
``hidden-N.safetensors``, the inputs of the part to come. Every file appears whole or not at all.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from netweight import formats
from netweight.artifact._layout import Layout, arrays_of, keys
from netweight.errors import CorruptError, ExistsError
from netweight.files import in_place_of, readable_errors, write_atomically
from netweight.ledger import Ledger, Row

TYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


@dataclass(frozen=True)
class PartRecord:
    """A finished part: its file, ledger rows, the formats and digests of its layers, and the hash of its output."""

    name: str
    file: str
    rows: tuple[Row, ...]
    layers: dict[str, dict[str, Any]]  # layer -> format, shape, sha256
    digest: str


class Store:
    """The folder of one run's finished parts."""

    def __init__(self, out: Path, fingerprint: Mapping[str, Any]) -> None:
        """Open or begin the work on ``out``.

        Raises:
          ExistsError: ``out`` exists, or unfinished work there belongs to another model, recipe or version.
        """
        self.out = out
        self.folder = out.with_name(out.name + ".partial")
        if out.exists():
            raise ExistsError(f"{out} already exists; choose another folder or remove it")
        with readable_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._claim(dict(fingerprint))

    def _claim(self, fingerprint: dict[str, Any]) -> None:
        state = self.folder / "state.json"
        if state.exists():
            try:
                found = json.loads(state.read_text(encoding="utf-8"))
            except ValueError:
                found = {}
            changed = sorted(key for key in {*found, *fingerprint} if found.get(key) != fingerprint.get(key))
            if changed:
                raise ExistsError(
                    f"{self.folder} holds unfinished work with another {', '.join(changed)}; remove it to start over, "
                    "or run with what it was started with to go on"
                )
            return
        if any(path.name != state.name + ".tmp" for path in self.folder.iterdir()):  # one we were killed in is ours
            raise ExistsError(
                f"{self.folder} holds files that are not netweight's; remove it or choose another output folder"
            )
        write_atomically(state, json.dumps(fingerprint, sort_keys=True, indent=1).encode())

    def done(self) -> int:
        """How many parts are finished, with their outputs."""
        numbers = [int(path.stem.split("-")[1]) for path in self.folder.glob("hidden-*.safetensors")]
        return max(numbers) + 1 if numbers else 0

    def hidden(self) -> list[Tensor]:
        """Outputs of the last finished part, one per batch."""
        path = self.folder / f"hidden-{self.done() - 1}.safetensors"
        try:
            tensors = load_file(path)
        except (OSError, SafetensorError) as error:
            raise CorruptError(f"cannot read {path}: {error}; remove {self.folder} to start over") from error
        return [tensors[str(index)] for index in range(len(tensors))]

    def put(self, index: int, record: PartRecord, tensors: dict[str, Tensor], hidden: Sequence[Tensor]) -> None:
        """Store a finished part, then its outputs; only then is it done.

        Raises: ResourceError: the disk is full. ArtifactError: it cannot be written.
        """
        with readable_errors(self.folder):
            save(self.folder / record.file, tensors)
            text = json.dumps({**asdict(record)}, sort_keys=True, allow_nan=False)
            write_atomically(self.folder / f"part-{index}.json", text.encode())
            save(self.folder / f"hidden-{index}.safetensors", _Numbered(hidden))
            for path in self.folder.glob("hidden-*.safetensors"):
                if path.name != f"hidden-{index}.safetensors":
                    path.unlink()

    def weights(self, record: PartRecord, layout: Layout) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """What a finished part holds: layers with their decoded (O, I) matrices, and the other tensors by name."""
        path = self.folder / record.file
        try:
            tensors = load_file(path)
        except (OSError, SafetensorError) as error:
            raise CorruptError(f"cannot read {path}: {error}; remove {self.folder} to start over") from error
        matrices = {}
        for layer, row in record.layers.items():
            format, shape = formats.get(row["format"]), (int(row["shape"][0]), int(row["shape"][1]))
            own = {key: tensors.pop(key) for key in keys(layer, format, layout) if key in tensors}
            matrices[layer] = formats.unpack(arrays_of(layer, own, format, layout), format, shape).decode()
        return matrices, tensors

    def records(self, count: int) -> list[PartRecord]:
        return [self._record(index) for index in range(count)]

    def _record(self, index: int) -> PartRecord:
        path = self.folder / f"part-{index}.json"
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CorruptError(f"cannot read {path}: {error}; remove {self.folder} to start over") from error
        rows = Ledger.from_jsonl("\n".join(json.dumps(row) for row in values.pop("rows"))).rows
        return PartRecord(**values, rows=rows)

    @property
    def final(self) -> Path:
        return self.folder / "final"

    def stage(self, name: str) -> Store:
        """A further pass over all parts, in a folder below this one's."""
        other = copy.copy(self)
        other.folder = self.folder / name
        with readable_errors(other.folder):
            other.folder.mkdir(exist_ok=True)
        return other

    def publish(self, final: Path) -> None:
        """Move the finished artifact to its place in one step, and drop the work files."""
        if self.out.exists():
            raise ExistsError(f"{self.out} appeared while we worked; the result stays in {final}")
        with readable_errors(self.out):
            os.rename(final, self.out)
            for path in self.folder.glob("hidden-*"):  # first: without them what is left is nobody's finished work
                path.unlink()
            shutil.rmtree(self.folder, ignore_errors=True)


class _Numbered(Mapping[str, Tensor]):
    """A sequence by the names of its numbers; each tensor is asked for when it is used, and not kept."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self._tensors = tensors

    def __len__(self) -> int:
        return len(self._tensors)

    def __iter__(self) -> Iterator[str]:
        return map(str, range(len(self._tensors)))

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[int(name)]


def save(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """A safetensors file that appears whole or not at all; the same tensors give the same bytes."""
    with in_place_of(path) as temporary:
        write_tensors(temporary, tensors)


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """A safetensors file, written tensor after tensor: the format's own library first copies all of them in memory.

    Source of the layout: the safetensors format description (8 bytes of length, JSON, data).
    """
    described = {name: (tensor.dtype, list(tensor.shape), tensor.nbytes) for name, tensor in tensors.items()}
    names = sorted(described, key=lambda name: (-described[name][0].itemsize, name))  # so that every tensor is aligned
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in names:
        dtype, shape, size = described[name]
        begin, end = end, end + size
        header[name] = {"dtype": TYPES[dtype], "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in names:
            tensor = tensors[name]
            if tensor.numel():
                file.write(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)


def opened(path: Path):  # safetensors gives no public type
    """A safetensors file opened for reading single tensors."""
    return safe_open(path, framework="pt")

"""Where weights come from: a source names its tensors and reads one at a time, so that no more than that is in memory."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from netweight.errors import ModelError

PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
ZIP = b"PK\x03\x04"  # what torch.save writes since 1.6
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def type_name(dtype: torch.dtype) -> str:
    """``"F32"`` for ``torch.float32``: the names safetensors uses."""
    return next((name for name, known in DTYPES.items() if known == dtype), str(dtype))


class WeightSource(Protocol):
    """Tensors by name, read when asked for. ``files`` is empty for weights that live in memory."""

    @property
    def files(self) -> tuple[Path, ...]: ...
    def names(self) -> tuple[str, ...]: ...
    def shape(self, name: str) -> tuple[int, ...]: ...
    def nbytes(self, name: str) -> int: ...  # as stored
    def stored_as(self, name: str) -> str: ...  # "F32", "BF16", "Q4_1"
    def load(self, name: str) -> Tensor: ...


@dataclass(frozen=True)
class Entry:
    """One stored tensor: its file, type, shape, and bytes from ``offset`` on."""

    path: Path
    stored_as: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int


class FileSource:
    """Plain tensors at known places of files: safetensors, single or sharded, and llama2.c checkpoints."""

    def __init__(self, entries: Mapping[str, Entry]) -> None:
        self._entries = dict(entries)
        self.files: tuple[Path, ...] = tuple(sorted({entry.path for entry in entries.values()}))

    def names(self) -> tuple[str, ...]:
        return tuple(self._entries)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._entries[name].shape

    def nbytes(self, name: str) -> int:
        return self._entries[name].nbytes

    def stored_as(self, name: str) -> str:
        return self._entries[name].stored_as

    def load(self, name: str) -> Tensor:
        """Reads the tensor's own bytes and nothing else. Raises: ModelError: the file ends too early."""
        entry = self._entries[name]
        return read_bytes(entry).view(DTYPES[entry.stored_as]).reshape(entry.shape)


class PickleSource:
    """A torch checkpoint that the caller trusts; torch still refuses everything in it that is not tensors."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.files: tuple[Path, ...] = tuple(files)
        self._tensors: dict[str, Tensor] = {}
        for path in files:
            self._tensors |= {name: value for name, value in _unpickle(path).items() if isinstance(value, Tensor)}

    def names(self) -> tuple[str, ...]:
        return tuple(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._tensors[name].shape)

    def nbytes(self, name: str) -> int:
        return self._tensors[name].nbytes

    def stored_as(self, name: str) -> str:
        return type_name(self._tensors[name].dtype)

    def load(self, name: str) -> Tensor:
        return self._tensors[name].clone()


class LiveSource:
    """The tensors of a module in memory, by the names of its ``state_dict``."""

    def __init__(self, module: torch.nn.Module) -> None:
        self.files: tuple[Path, ...] = ()
        self._module = module

    def _tensors(self) -> dict[str, Tensor]:
        return self._module.state_dict()

    def names(self) -> tuple[str, ...]:
        return tuple(self._tensors())

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._tensors()[name].shape)

    def nbytes(self, name: str) -> int:
        return self._tensors()[name].nbytes

    def stored_as(self, name: str) -> str:
        return type_name(self._tensors()[name].dtype)

    def load(self, name: str) -> Tensor:
        return self._tensors()[name].detach()


class Renamed:
    """A source under other names: ``names[new] == old``."""

    def __init__(self, source: WeightSource, names: Mapping[str, str]) -> None:
        self._source, self._names = source, dict(names)

    @property
    def files(self) -> tuple[Path, ...]:
        return self._source.files

    def names(self) -> tuple[str, ...]:
        return tuple(self._names)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._source.shape(self._names[name])

    def nbytes(self, name: str) -> int:
        return self._source.nbytes(self._names[name])

    def stored_as(self, name: str) -> str:
        return self._source.stored_as(self._names[name])

    def load(self, name: str) -> Tensor:
        return self._source.load(self._names[name])


def read_bytes(entry: Entry) -> Tensor:
    """(nbytes,) uint8. Raises: ModelError: the file is missing or ends too early."""
    data = torch.empty(entry.nbytes, dtype=torch.uint8)
    try:
        with open(entry.path, "rb", buffering=0) as file:
            file.seek(entry.offset)
            got, view = 0, data.numpy().data
            while got < entry.nbytes and (more := file.readinto(view[got:])):
                got += more
    except OSError as error:
        raise ModelError(f"cannot read {entry.path}: {error}") from error
    if got < entry.nbytes:
        raise ModelError(
            f"{entry.path} is truncated: {got} of {entry.nbytes} bytes at offset {entry.offset}; fetch it again"
        )
    return data


def safetensors(paths: Sequence[Path]) -> FileSource:
    """Raises: ModelError: a file is missing, truncated, a pickle, or not safetensors."""
    entries: dict[str, Entry] = {}
    for path in paths:
        entries |= _header(path)
    return FileSource(entries)


def is_pickle(path: Path) -> bool:
    """By its first bytes; nothing is unpickled."""
    with open(path, "rb") as file:
        head = file.read(9)
    if head.startswith(ZIP):
        return True
    protocol = len(head) > 2 and head[0] == 0x80 and head[1] in range(2, 6)
    return protocol and head[2] != 0 and head[8:] != b"{"  # a length of 640 starts like protocol 2


def shards(index: Path) -> tuple[Path, ...]:
    """Files named by a Hugging Face index. Raises: ModelError: the index is unreadable or a shard is missing."""
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ModelError(f"{index} is not a weight index: {error!r}") from error
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise ModelError(
            f"{index.name} names {missing[0]}, which is not in {index.parent} ({len(missing)} of {len(names)} missing)"
        )
    return tuple(index.parent / name for name in names)


def _header(path: Path) -> dict[str, Entry]:
    if not path.is_file():
        raise ModelError(f"no such file: {path}")
    if is_pickle(path):
        raise ModelError(f"{path} is a pickle, not safetensors; it is not opened unless you pass trust_pickle=True")
    try:
        with safe_open(path, framework="pt"):  # checks header, offsets and file size
            pass
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is not a whole safetensors file: {error}; fetch it again") from error
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        table = json.loads(file.read(length))
    table.pop("__metadata__", None)
    unknown = sorted({row["dtype"] for row in table.values()} - set(DTYPES))
    if unknown:
        raise ModelError(f"{path}: tensor type {unknown[0]} is not read here; known: {', '.join(DTYPES)}")
    return {name: _entry(path, row, 8 + length) for name, row in table.items()}


def _entry(path: Path, row: dict, start: int) -> Entry:
    first, last = row["data_offsets"]
    return Entry(path, row["dtype"], tuple(row["shape"]), start + first, last - first)


def _unpickle(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ModelError(f"no such file: {path}")
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=False)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise ModelError(f"{path} holds more than tensors or is damaged: {error}") from error
    if isinstance(loaded, dict) and isinstance(loaded.get("state_dict"), dict):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, dict):
        raise ModelError(f"{path} holds a {type(loaded).__name__}, not a table of tensors")
    return loaded

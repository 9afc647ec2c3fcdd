"""GGUF files: the header as data, and tensors decoded one at a time.

Source: the GGUF specification (ggml project, docs/gguf.md), versions 2 and 3, little-endian. Block decoding is the ``gguf``
package's own; a test holds every header field and tensor against its reader.
"""

from __future__ import annotations

import mmap
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize
from torch import Tensor

from netweight.errors import ModelError, nearest
from netweight.models._family import GGUFTable, families
from netweight.models._weights import Entry, read_bytes

SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
STRING, ARRAY = 8, 9
DEFAULT_ALIGNMENT = 32


@dataclass(frozen=True)
class Header:
    """``metadata`` keeps scalars and strings; an array is represented by its length, so that a vocabulary costs nothing."""

    path: Path
    metadata: Mapping[str, Any]
    tensors: Mapping[str, Entry]  # shapes in torch's order

    @property
    def architecture(self) -> str:
        return str(self.metadata.get("general.architecture", ""))


class _Cursor:
    """Reads forward through a mapped file; running off its end is a ``ModelError``."""

    def __init__(self, data: mmap.mmap, path: Path) -> None:
        self.data, self.path, self.at = data, path, 0

    def take(self, layout: str) -> Any:
        size = struct.calcsize(layout)
        return struct.unpack(layout, self.bytes(size))[0]

    def bytes(self, size: int) -> bytes:
        if self.at + size > len(self.data):
            raise ModelError(f"{self.path} is truncated: the header ends beyond byte {len(self.data)}; fetch it again")
        self.at += size
        return self.data[self.at - size : self.at]

    def string(self) -> str:
        return self.bytes(self.take("<Q")).decode("utf-8", errors="replace")

    def value(self, kind: int) -> Any:
        if kind in SCALARS:
            return self.take(SCALARS[kind])
        if kind == STRING:
            return self.string()
        if kind != ARRAY:
            raise ModelError(
                f"{self.path}: unknown GGUF metadata type {kind}; the file is damaged or newer than version 3"
            )
        return self.array()

    def array(self) -> int:
        kind, length = self.take("<I"), self.take("<Q")
        if kind in SCALARS:
            self.bytes(length * struct.calcsize(SCALARS[kind]))
        else:
            for _ in range(length):
                self.value(kind)
        return length


def read_header(path: Path) -> Header:
    """Metadata and tensor table, without touching tensor data.

    Raises:
      ModelError: not GGUF, a version other than 2 or 3, truncated, or a tensor type unknown to the ``gguf`` package.
    """
    if not path.is_file():
        raise ModelError(f"no such file: {path}")
    if path.stat().st_size < 24 or path.open("rb").read(4) != b"GGUF":
        raise ModelError(f"{path} is not a GGUF file: it does not start with b'GGUF' and a header")
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return _parse(_Cursor(data, path))


def _parse(cursor: _Cursor) -> Header:
    cursor.bytes(4)
    version, n_tensors, n_keys = cursor.take("<I"), cursor.take("<Q"), cursor.take("<Q")
    if version not in (2, 3):
        raise ModelError(f"{cursor.path} is GGUF version {version}; 2 and 3 are read (little-endian only)")
    metadata = {}
    for _ in range(n_keys):
        key = cursor.string()
        metadata[key] = cursor.value(cursor.take("<I"))
    rows = [_row(cursor) for _ in range(n_tensors)]
    alignment = int(metadata.get("general.alignment", DEFAULT_ALIGNMENT))
    start = -(-cursor.at // alignment) * alignment
    tensors = {name: _entry(cursor, name, shape, kind, start + offset) for name, shape, kind, offset in rows}
    return Header(cursor.path, metadata, tensors)


def _row(cursor: _Cursor) -> tuple[str, tuple[int, ...], int, int]:
    name = cursor.string()
    dims = [cursor.take("<Q") for _ in range(cursor.take("<I"))]
    return name, tuple(reversed(dims)), cursor.take("<I"), cursor.take("<Q")


def _entry(cursor: _Cursor, name: str, shape: tuple[int, ...], kind: int, offset: int) -> Entry:
    try:
        quantization = GGMLQuantizationType(kind)
    except ValueError as error:
        raise ModelError(f"{cursor.path}: {name} has the unknown tensor type {kind}") from error
    per_block, block_bytes = GGML_QUANT_SIZES[quantization]
    count = int(np.prod(shape, dtype=np.int64))
    nbytes = count // per_block * block_bytes
    if count % per_block or offset + nbytes > len(cursor.data):
        have = len(cursor.data)
        raise ModelError(
            f"{cursor.path} is truncated: {name} ends at byte {offset + nbytes}, the file at {have}; fetch it again"
        )
    return Entry(cursor.path, quantization.name, shape, offset, nbytes)


class GGUFSource:
    """The tensors of a GGUF file under the names of the transformers module, decoded to float32."""

    def __init__(self, header: Header, table: GGUFTable, heads: int, kv_heads: int) -> None:
        self.files: tuple[Path, ...] = (header.path,)
        self._entries = {hf: (name, header.tensors[name]) for name, hf in module_names(header, table).items()}
        self._interleaved = table.interleaved if header.architecture in table.interleaved_in else ()
        self._heads = {"attn_q": heads, "attn_k": kv_heads}

    def names(self) -> tuple[str, ...]:
        return tuple(self._entries)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._entries[name][1].shape

    def nbytes(self, name: str) -> int:
        return self._entries[name][1].nbytes

    def stored_as(self, name: str) -> str:
        return self._entries[name][1].stored_as

    def load(self, name: str) -> Tensor:
        """float32, rotary pairs in transformers' order. Raises: ModelError: truncated, or a type that is not decoded."""
        stored, entry = self._entries[name]
        kind = stored.split(".")[-2]
        weight = decode(entry)
        return halves(weight, self._heads[kind]) if kind in self._interleaved else weight


def decode(entry: Entry) -> Tensor:
    """float32 tensor of one entry, as the ``gguf`` package decodes it."""
    quantization = GGMLQuantizationType[entry.stored_as]
    raw = read_bytes(entry).numpy()
    if quantization in (GGMLQuantizationType.F32, GGMLQuantizationType.F16):
        return (
            torch.from_numpy(raw.view(np.dtype(f"<f{raw.nbytes // int(np.prod(entry.shape))}")))
            .reshape(entry.shape)
            .float()
        )
    per_block, block_bytes = GGML_QUANT_SIZES[quantization]
    try:
        decoded = dequantize(raw.reshape(-1, entry.shape[-1] // per_block * block_bytes), quantization)
    except NotImplementedError as error:
        raise ModelError(
            f"{entry.path}: tensor type {entry.stored_as} cannot be decoded by the gguf package"
        ) from error
    return torch.from_numpy(np.ascontiguousarray(decoded)).reshape(entry.shape)


def halves(weight_OI: Tensor, heads: int) -> Tensor:
    """Rows of each head from adjacent rotary pairs (0, 1), (2, 3), ... to transformers' two halves (0, 2, ...), (1, 3, ...)."""
    rows = weight_OI.shape[0]
    return weight_OI.reshape(heads, rows // heads // 2, 2, -1).transpose(1, 2).reshape(weight_OI.shape).contiguous()


def table_of(header: Header) -> GGUFTable:
    """Raises: ModelError: no family here reads this architecture."""
    known = {arch: f.gguf for f in families() if f.gguf for arch in f.gguf.model_types}
    if header.architecture not in known:
        hint = nearest(header.architecture, known)
        raise ModelError(f"{header.path}: GGUF architecture {header.architecture!r} is not read here{hint}")
    return known[header.architecture]


def module_names(header: Header, table: GGUFTable) -> dict[str, str]:
    """GGUF tensor name -> parameter name of the transformers module.

    Raises: ModelError: a tensor that no parameter takes; leaving one out would change what the model computes.
    """
    found = {}
    for name in header.tensors:
        if name in table.refused:
            raise ModelError(f"{header.path} holds {name}: {table.refused[name]}; load the model's safetensors instead")
        stem, _, leaf = name.rpartition(".")
        number = re.match(r"blk\.(\d+)\.", stem)
        key = re.sub(r"^blk\.\d+\.", "blk.{n}.", stem)
        if key not in table.tensors:
            raise ModelError(f"{header.path} holds {name}, which has no place in a {header.architecture} model here")
        found[name] = table.tensors[key].replace("{n}", number[1] if number else "") + "." + leaf
    return found


def config_values(header: Header, table: GGUFTable) -> dict[str, Any]:
    """Fields of the transformers config, from the metadata.

    Raises: ModelError: a required key is missing.
    """
    prefix = header.architecture + "."
    for key in table.required:
        if prefix + key not in header.metadata:
            raise ModelError(f"{header.path} lacks {prefix + key!r}: it is not a whole language model")
    values = {
        field: header.metadata[prefix + key] for key, field in table.config.items() if prefix + key in header.metadata
    }
    if "vocab_size" not in values and "tokenizer.ggml.tokens" in header.metadata:
        values["vocab_size"] = header.metadata["tokenizer.ggml.tokens"]
    for name, field in (("bos", "bos"), ("eos", "eos"), ("padding", "pad"), ("unknown", "unk")):
        if (token := header.metadata.get(f"tokenizer.ggml.{name}_token_id")) is not None:
            values[f"{field}_token_id"] = token
    return values | {"tie_word_embeddings": "output.weight" not in header.tensors}

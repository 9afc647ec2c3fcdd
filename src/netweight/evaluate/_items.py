"""What subjects are measured on: texts, questions, sentence pairs, labelled inputs and images with masks, each with its origin.

A tokenizer enters as the callable ``encode(text) -> list of ids``, which must add no special tokens.
The item classes are read by their field names only, so any object with the same fields will do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
from torch import Tensor

from netweight.errors import DataError
from netweight.provenance import sha256_of_bytes, sha256_of_json

Encode = Callable[[str], Sequence[int]]
Kind = Literal["text", "choices", "context-choices", "continuations", "pairs", "labelled", "masks", "none"]
ItemKind = Literal["choices", "context-choices", "continuations", "pairs"]


@dataclass(frozen=True, eq=False)
class Text:
    """Running text, document by document; the document is the unit that is resampled."""

    documents: tuple[str, ...]
    encode: Encode
    source: str
    split: str = ""
    sha256: str = ""
    bos_id: int | None = None

    kind: Kind = "text"

    def describe(self) -> dict[str, Any]:
        """Source, split, sha256 and size, as a claim records them."""
        digest = self.sha256 or sha256_of_json(list(self.documents))
        return _origin(self.source, self.split, digest) | {"documents": len(self.documents)}


@dataclass(frozen=True, eq=False)
class Items:
    """Independent items of one kind; the item is the unit that is resampled."""

    kind: ItemKind
    items: Sequence[Any]
    source: str
    split: str = ""
    sha256: str = ""
    encode: Encode | None = None
    bos_id: int | None = None

    def describe(self) -> dict[str, Any]:
        """Source, split, sha256 and size, as a claim records them."""
        digest = self.sha256 or sha256_of_json([_plain(item) for item in self.items])
        return _origin(self.source, self.split, digest) | {"items": len(self.items)}

    def encoder(self) -> Encode:
        """Raises: DataError: no tokenizer was given."""
        if self.encode is None:
            raise DataError(f"{self.source}: these items need a tokenizer; pass encode=")
        return self.encode


@dataclass(frozen=True, eq=False)
class Labelled:
    """Inputs of a classifier, first axis N, and the right class of each."""

    inputs: Tensor
    labels_N: Tensor
    source: str
    split: str = ""
    sha256: str = ""

    kind: Kind = "labelled"

    def describe(self) -> dict[str, Any]:
        """Source, split, sha256 and size, as a claim records them."""
        digest = self.sha256 or sha256_of_bytes(
            b"".join(t.contiguous().cpu().numpy().tobytes() for t in (self.inputs, self.labels_N))
        )
        return _origin(self.source, self.split, digest) | {"items": len(self.labels_N)}


class Images(Protocol):
    """Images by slice: a tensor (N, 3, H, W), or anything that makes the rows of one when they are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> Tensor: ...


@dataclass(frozen=True, eq=False)
class Masked:
    """Slices of patients with the true mask of each; the patient is the unit that is resampled.

    Attributes:
      images: what a subject's ``segment`` reads, (B, 3, H, W) float per slice of rows; None where predictions are at hand.
      masks_NHW: bool, true where the lesion is.
      patients: the patient of each slice, in any order.
    """

    images: Images | None
    masks_NHW: np.ndarray
    patients: Sequence[str]
    source: str
    split: str = ""
    sha256: str = ""

    kind: Kind = "masks"

    def describe(self) -> dict[str, Any]:
        """Source, split, sha256 and size, as a claim records them."""
        sizes = {"slices": len(self.masks_NHW), "patients": len(set(self.patients))}
        return _origin(self.source, self.split, self.sha256 or self._digest) | sizes

    @cached_property
    def _digest(self) -> str:
        parts = [sha256_of_bytes(np.ascontiguousarray(self.masks_NHW).data), list(self.patients)]
        if self.images is not None:
            rows = range(0, len(self.images), 64)
            tensors = (self.images[slice(row, row + 64)].contiguous().cpu().numpy() for row in rows)
            parts += [sha256_of_bytes(tensor.data) for tensor in tensors]
        return sha256_of_json(parts)


Data = Text | Items | Labelled | Masked


def _origin(source: str, split: str, sha256: str) -> dict[str, Any]:
    return {"source": source, "split": split, "sha256": sha256}


def _plain(item: Any) -> Any:
    return asdict(item) if is_dataclass(item) and not isinstance(item, type) else repr(item)

"""Calibration: the batches a method looks at, and where they came from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from netweight.data._corpus import Corpus, corpus
from netweight.errors import DataError
from netweight.formats import not_finite
from netweight.recipe import CalibrationSettings

ROWS = 8


@dataclass(frozen=True)
class Calibration:
    """``batches`` are what the model is called with: mappings of tensors, or for a plain module also tensors and tuples.

    ``provenance`` is plain data: source, split, sha256, and for text also seed, samples, length, tokens.
    """

    batches: list[Any]
    provenance: dict[str, Any]


def calibration(settings: CalibrationSettings, tokenizer: Any, *, seed: int = 0, rows: int = ROWS) -> Calibration:
    """Windows of text, drawn without overlap; the same seed gives the same windows whatever ``rows`` is.

    Documents follow each other, each ended by the tokenizer's end-of-sequence token where it has one, and the whole is cut
    into windows of ``settings.length`` tokens, of which ``settings.samples`` are drawn. Tokenizers of encoders (with a class
    and a separator token) put those two tokens around each window instead; they count towards its length.

    Args:
      tokenizer: a transformers tokenizer.
      seed: of a generator of its own.
      rows: windows per batch.
    Returns:
      Batches ``{"input_ids": (rows, length) int64}``; the last may have fewer rows.
    Raises:
      DataError: unknown, missing or empty text, or too little of it: the tokens needed and available are stated.
    """
    if rows < 1:
        raise DataError(f"rows = {rows}: a batch needs at least 1 window")
    text = corpus(settings.source)
    windows = _windows(text, settings, tokenizer)
    order = torch.randperm(len(windows), generator=torch.Generator().manual_seed(seed))[: settings.samples]
    chosen = windows[order]
    batches = [{"input_ids": part.contiguous()} for part in chosen.split(rows)]
    provenance = {
        "source": text.source,
        "split": text.split,
        "sha256": text.sha256,
        "seed": seed,
        "samples": settings.samples,
        "length": settings.length,
        "tokens": settings.samples * settings.length,
        "tokens_sha256": _digest([chosen]),
    }
    return Calibration(batches, provenance)


def from_batches(batches: Iterable[Any], *, source: str = "batches given by the caller") -> Calibration:
    """Batches as given: tensors, tuples of tensors, or mappings of them. None at all is allowed: not every method looks.

    Raises: DataError: an element without tensors, or NaN or Inf in one; the batch is named.
    """
    kept = list(batches)
    tensors = []
    for number, batch in enumerate(kept):
        found = list(_tensors(batch))
        if not found:
            raise DataError(
                f"batch {number} is a {type(batch).__name__} without tensors; give a tensor, a tuple or a mapping"
            )
        for name, tensor in found:
            _check_finite(tensor, f"batch {number}{name}")
        tensors += [tensor for _, tensor in found]
    return Calibration(kept, {"source": source, "split": "", "sha256": _digest(tensors), "batches": len(kept)})


def _windows(text: Corpus, settings: CalibrationSettings, tokenizer: Any) -> Tensor:
    """(windows, length) int64, in the order of the text."""
    framed = tokenizer.cls_token_id is not None and tokenizer.sep_token_id is not None
    inner = settings.length - 2 if framed else settings.length
    if inner < 1:
        raise DataError(
            f"length = {settings.length}: windows of an encoder need at least 3 tokens, two of them special"
        )
    end = [] if framed or tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    encoded = tokenizer(list(text.documents), add_special_tokens=False, verbose=False)["input_ids"]
    ids = torch.tensor([token for document in encoded for token in (*document, *end)], dtype=torch.int64)
    count, need = len(ids) // inner, settings.samples
    if count < need:
        where = "/".join(part for part in (text.source, text.split) if part)
        raise DataError(
            f"{where} is too short: {need} windows of {inner} tokens need {need * inner}, it has {len(ids)} tokens "
            f"({count} windows); ask for fewer samples, shorter windows, or give more text"
        )
    windows = ids[: count * inner].reshape(count, inner)
    if not framed:
        return windows
    first, last = (
        torch.tensor([[token]]).expand(count, 1) for token in (tokenizer.cls_token_id, tokenizer.sep_token_id)
    )
    return torch.cat([first, windows, last], dim=1)


def _tensors(batch: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    if isinstance(batch, Tensor):
        yield name, batch
    elif isinstance(batch, Mapping):
        for key, value in batch.items():
            yield from _tensors(value, f"{name}[{key!r}]")
    elif isinstance(batch, tuple | list):
        for index, value in enumerate(batch):
            yield from _tensors(value, f"{name}[{index}]")


def _check_finite(tensor: Tensor, where: str) -> None:
    if count := not_finite(tensor):
        raise DataError(f"{where} holds {count} NaN or Inf of {tensor.numel()} values; clean the calibration data")


def _digest(tensors: Iterable[Tensor]) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()

"""Running text cut into windows: which tokens are scored, with how much context, and to which document they belong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from netweight.errors import DataError
from netweight.evaluate._items import Text
from netweight.settings import Settings

WINDOW = 512


class TextSettings(Settings):
    """How text is cut. All metrics of one text with equal settings share one pass over it.

    Windows start at token 0, ``stride``, 2 ``stride``, ... A window scores the tokens that no earlier window scored,
    except its own first token, which has no context. With ``stride < window`` every token but the first is thus scored
    exactly once, in its later windows with at least ``window - stride`` tokens of context. With ``stride = window``
    there is no overlap and each window leaves its first token unscored (the usual "perplexity in chunks"). The last
    window may be shorter. The claim states how many tokens were scored.

    BOS rule: with ``bos = "window"`` every window begins with the tokenizer's BOS, which counts towards ``window``, is
    context only and never scored; the window's first real token is then scored too. With "none" nothing is added.
    """

    window: int = Field(WINDOW, gt=1, description="tokens the model sees at once")
    stride: int = Field(WINDOW, gt=0, description="tokens between window starts; default: no overlap")
    max_windows: int | None = Field(None, gt=0, description="stop after so many windows")
    layout: Literal["documents", "joined"] = Field(
        "documents", description="windows within documents, or through all documents joined in order"
    )
    cluster: Literal["document", "window"] = Field("document", description="the unit that is resampled")
    bos: Literal["none", "window"] = Field("none", description="begin every window with the tokenizer's BOS")

    @model_validator(mode="before")
    @classmethod
    def _stride_is_the_window(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("stride") is None:
            fresh = values.get("window", WINDOW) - (values.get("bos") == "window")
            return values | {"stride": fresh}
        return values

    @model_validator(mode="after")
    def _no_gaps(self) -> TextSettings:
        fresh = self.window - (self.bos == "window")
        if self.stride > fresh:
            raise ValueError(f"a stride of {self.stride} skips tokens: a window holds {fresh} of the text")
        return self


@dataclass(frozen=True, eq=False)
class Window:
    """Ids the model sees, and for each scored position the cluster its score belongs to.

    Attributes:
      ids_T: token ids.
      scored_S: positions whose token is scored, increasing, each at least 1: position t is predicted by logits t - 1.
      clusters_S: the cluster of each.
      label: words that name the window in an error.
    """

    ids_T: Sequence[int]
    scored_S: np.ndarray
    clusters_S: np.ndarray
    label: str


def cut(text: Text, settings: TextSettings) -> tuple[list[Window], int]:
    """Windows of a text, and how many clusters they have.

    Raises:
      DataError: no document holds two tokens (one, with a BOS), or a BOS is asked for and the tokenizer has none.
    """
    if settings.bos == "window" and text.bos_id is None:
        raise DataError(f'{text.source}: bos = "window", but no bos_id was given; pass one, or bos = "none"')
    windows: list[Window] = []
    for stream in _streams(text, settings):
        for window in _windows_of(stream, text, settings):
            windows.append(window)
            if len(windows) == settings.max_windows:
                return _renumbered(windows, settings)
    if not windows:
        raise DataError(
            f"{text.source}: {len(text.documents)} documents hold no token that can be scored; "
            "each needs at least two tokens, or one and a BOS"
        )
    return _renumbered(windows, settings)


@dataclass(frozen=True, eq=False)
class _Stream:
    ids: list[int]
    documents: list[int]  # of each token
    label: str


def _streams(text: Text, settings: TextSettings) -> Iterator[_Stream]:
    encoded = (list(text.encode(document)) for document in text.documents)
    if settings.layout == "documents":
        for number, ids in enumerate(encoded):
            yield _Stream(ids, [number] * len(ids), f"{text.source} document {number}")
        return
    parts = list(encoded)
    owners = [number for number, ids in enumerate(parts) for _ in ids]
    yield _Stream([token for ids in parts for token in ids], owners, f"{text.source} joined")


def _windows_of(stream: _Stream, text: Text, settings: TextSettings) -> Iterator[Window]:
    lead = [text.bos_id] if settings.bos == "window" and text.bos_id is not None else []
    size = settings.window - len(lead)
    done = 0  # tokens scored or passed over by earlier windows
    for start in range(0, len(stream.ids), settings.stride):
        stop = min(start + size, len(stream.ids))
        first = max(done, start + (not lead))
        if first < stop:
            owners = np.asarray(stream.documents[first:stop])
            positions = np.arange(first, stop) - start + len(lead)
            yield Window(lead + stream.ids[start:stop], positions, owners, f"{stream.label}, tokens from {start}")
        done = stop
        if stop == len(stream.ids):
            return


def _renumbered(windows: list[Window], settings: TextSettings) -> tuple[list[Window], int]:
    """Clusters numbered from 0 without gaps: documents that no window scored are left out."""
    if settings.cluster == "window":
        windows = [Window(w.ids_T, w.scored_S, np.full(len(w.scored_S), i), w.label) for i, w in enumerate(windows)]
        return windows, len(windows)
    used = np.unique(np.concatenate([w.clusters_S for w in windows]))
    renamed = [Window(w.ids_T, w.scored_S, np.searchsorted(used, w.clusters_S), w.label) for w in windows]
    return renamed, len(used)


def padded(windows: Sequence[Window]) -> tuple[Tensor, Tensor | None]:
    """ids_BT padded on the right with id 0, and the mask (1 on real tokens), or None if nothing is padded."""
    lengths = [len(w.ids_T) for w in windows]
    ids_BT = torch.zeros(len(windows), max(lengths), dtype=torch.int64)
    mask_BT = torch.zeros_like(ids_BT)
    for row, window in enumerate(windows):
        ids_BT[row, : lengths[row]] = torch.as_tensor(window.ids_T, dtype=torch.int64)
        mask_BT[row, : lengths[row]] = 1
    return ids_BT, (mask_BT if min(lengths) < max(lengths) else None)

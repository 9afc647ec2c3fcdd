"""The likelihood of a continuation after a context, for many pairs at once.

The text that is tokenized is context + delimiter + continuation, in one piece. White space at the end of context and
delimiter moves to the continuation, as byte-pair vocabularies hold words with their leading space. The continuation's
tokens are those after the longest common start of the whole's tokens and the context's own, so a token that spans the
border counts as continuation. Padding is on the right and masked; pairs are batched by length, longest first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from netweight.errors import DataError
from netweight.evaluate._bench import Bench
from netweight.evaluate._items import Encode
from netweight.evaluate._tokens import Scorer, TokenView, walk
from netweight.evaluate._windows import Window


@dataclass(frozen=True)
class Request:
    """Ids of context and continuation, and where the continuation begins."""

    ids: tuple[int, ...]
    begin: int
    label: str


@dataclass(frozen=True, eq=False)
class Scored:
    """Per request: log-probability of the continuation (nats), its tokens, and whether each was the likeliest token."""

    logp_N: np.ndarray
    tokens_N: np.ndarray
    greedy_N: np.ndarray


def request(
    context: str, continuation: str, encode: Encode, *, bos_id: int | None, max_tokens: int | None, label: str
) -> Request:
    """One context and continuation as ids.

    Args:
      max_tokens: a longer whole loses tokens of its context, from the left (a BOS is kept).
    Raises:
      DataError: nothing to score, no token before the first scored one, or a continuation longer than ``max_tokens``.
    """
    body = context.rstrip()
    whole = list(encode(body + context[len(body) :] + continuation))
    begin = _common_start(whole, list(encode(body)) if body else [])
    lead = [] if bos_id is None else [bos_id]
    if begin == len(whole):
        raise DataError(f"{label}: the continuation {continuation!r} has no tokens of its own")
    if not lead and begin == 0:
        raise DataError(f"{label}: nothing comes before {continuation!r}; give a context, or a bos_id")
    room = len(whole) if max_tokens is None else max_tokens - len(lead)
    drop = max(0, len(whole) - room)
    if drop > begin - (not lead):
        raise DataError(
            f"{label}: a continuation of {len(whole) - begin} tokens does not fit max_tokens = {max_tokens}"
        )
    return Request(tuple(lead + whole[drop:]), begin - drop + len(lead), label)


def _common_start(a: Sequence[int], b: Sequence[int]) -> int:
    for index, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return index
    return min(len(a), len(b))


def score(bench: Bench, requests: Sequence[Request], label: str) -> dict[str, Scored]:
    """Every request, for every subject, in the order given.

    Raises:
      EvidenceError: NaN or Inf logits at a scored token.
    """
    order = sorted(range(len(requests)), key=lambda i: -len(requests[i].ids))
    windows = [
        Window(r.ids, np.arange(r.begin, len(r.ids)), np.full(len(r.ids) - r.begin, i), r.label)
        for i in order
        for r in [requests[i]]
    ]
    sums = walk(bench, windows, len(requests), {"likelihood": Scorer(_likelihood)}, label)
    return {name: _scored(found["likelihood"]) for name, found in sums.items()}


def _likelihood(view: TokenView) -> Tensor:
    """(N, 3): log-probability, one, and one where the token is not the likeliest."""
    missed = view.logp_NV.argmax(1) != view.target_N
    return torch.stack([view.target_logp_N, torch.ones_like(view.target_logp_N), missed.double()], 1)


def _scored(sums_N3: np.ndarray) -> Scored:
    return Scored(sums_N3[:, 0], sums_N3[:, 1].astype(int), sums_N3[:, 2] == 0)

"""Language-model metrics one token at a time, in plain Python: no batches, no padding, no blocks.

A model is a function from a list of ids to a list of rows of logits (lists of floats).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

Model = Callable[[list[int]], list[list[float]]]


def log_probabilities(row: Sequence[float]) -> list[float]:
    top = max(row)
    norm = top + math.log(math.fsum(math.exp(x - top) for x in row))
    return [x - norm for x in row]


def argmax(row: Sequence[float]) -> int:
    return max(range(len(row)), key=lambda i: (row[i], -i))


def scored_positions(length: int, window: int, stride: int) -> list[tuple[int, int]]:
    """(start of the window, token) of every scored token: each token goes to the first window that holds it and gives it
    context, tokens that no window gives context are left out."""
    found = []
    starts = [s for s in range(0, length, stride) if s == 0 or s - stride + window < length]
    for token in range(length):
        for start in starts:
            if start < token < start + window:
                found.append((start, token))
                break
            if start == token and stride == window:
                break  # the first token of a window that does not overlap the one before
    return found


def token_rows(model: Model, ids: list[int], window: int, stride: int) -> list[tuple[list[float], int]]:
    """(log-probabilities, next token) of every scored token."""
    return [
        (log_probabilities(model(ids[start : start + window])[token - start - 1]), ids[token])
        for start, token in scored_positions(len(ids), window, stride)
    ]


def perplexity(model: Model, documents: Sequence[list[int]], window: int, stride: int) -> float:
    nll = [-row[token] for ids in documents for row, token in token_rows(model, ids, window, stride)]
    return math.exp(math.fsum(nll) / len(nll))


def kl_divergence(reference: Model, model: Model, documents: Sequence[list[int]], window: int, stride: int) -> float:
    found = []
    for ids in documents:
        rows = zip(token_rows(reference, ids, window, stride), token_rows(model, ids, window, stride), strict=True)
        found += [math.fsum(math.exp(p) * (p - q) for p, q in zip(a, b, strict=True)) for (a, _), (b, _) in rows]
    return math.fsum(found) / len(found)


def continuation(model: Model, context: list[int], following: list[int]) -> tuple[float, bool]:
    """Log-probability of ``following``, and whether each of its tokens is the likeliest."""
    rows = model(context + following)[len(context) - 1 : -1]
    chosen = [log_probabilities(row)[token] for row, token in zip(rows, following, strict=True)]
    return math.fsum(chosen), all(argmax(row) == token for row, token in zip(rows, following, strict=True))


def calibration_error(confidences: Sequence[float], right: Sequence[bool], bins: int = 15) -> float:
    """Bins (i / bins, (i + 1) / bins], the first with its left edge."""
    total = 0.0
    for i in range(bins):
        inside = [
            (c, r)
            for c, r in zip(confidences, right, strict=True)
            if i / bins < c <= (i + 1) / bins or (i == 0 and c == 0)
        ]
        if inside:
            confidence = math.fsum(c for c, _ in inside) / len(inside)
            accuracy = sum(r for _, r in inside) / len(inside)
            total += len(inside) / len(confidences) * abs(confidence - accuracy)
    return total

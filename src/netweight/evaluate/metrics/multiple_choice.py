"""Accuracy of choosing the likeliest answer, raw and per byte.

Raw: the choice with the largest log-probability after the query. Normalised: the largest log-probability divided by the
number of UTF-8 bytes of the choice (delimiter not counted), so that short answers have no head start. Of equals, the first.
Items with several contexts and one continuation are scored by the continuation after each context; as its length is the
same everywhere, both accuracies are then equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import Field

from netweight import settings as base
from netweight.errors import DataError
from netweight.evaluate import _continuations
from netweight.evaluate._bench import Bench
from netweight.evaluate._continuations import Request
from netweight.evaluate._items import Items
from netweight.evaluate._samples import Sample, proportion
from netweight.evaluate._task import Quantity

SUMMARY = "accuracy of the likeliest choice, raw and normalised by bytes"
DATA = ("choices", "context-choices")
QUANTITIES = (
    Quantity("multiple_choice_raw", "fraction", "higher"),
    Quantity("multiple_choice_normalised", "fraction", "higher"),
)


class Settings(base.Settings):
    delimiter: str = Field(" ", description="text between query and choice")
    max_tokens: int | None = Field(None, gt=1, description="longest sequence; a longer one loses context on the left")
    bos: bool = Field(False, description="begin every sequence with the tokenizer's BOS")


def measure(bench: Bench, data: Items, settings: Settings) -> dict[str, dict[str, Sample]]:
    """Both accuracies of every subject; one item is one independent observation."""
    items = _checked(data)
    options = [_options(data, item) for item in items]
    requests = [
        _request(data, settings, context, continuation, f"{data.source} item {number}, option {option}")
        for number, pairs in enumerate(options)
        for option, (context, continuation) in enumerate(pairs)
    ]
    bytes_N = np.array([len(continuation.encode()) for pairs in options for _, continuation in pairs], dtype=float)
    ends = np.cumsum([len(pairs) for pairs in options])[:-1]
    gold = np.array([item.gold for item in items])
    counts = {"requests": len(requests), "tokens": sum(len(r.ids) - r.begin for r in requests)}
    found: dict[str, dict[str, Sample]] = {}
    for name, scored in _continuations.score(bench, requests, f"multiple_choice on {data.source}").items():
        picks = (_pick(values, ends) for values in (scored.logp_N, scored.logp_N / bytes_N))
        found[name] = {
            quantity.name: proportion(pick == gold, "questions", counts)
            for quantity, pick in zip(QUANTITIES, picks, strict=True)
        }
    return found


def _pick(values_N: np.ndarray, ends: np.ndarray) -> np.ndarray:
    return np.array([int(part.argmax()) for part in np.split(values_N, ends)])


def _options(data: Items, item: Any) -> list[tuple[str, str]]:
    if data.kind == "choices":
        return [(item.query, choice) for choice in item.choices]
    return [(context, item.continuation) for context in item.context_options]


def _request(data: Items, settings: Settings, context: str, continuation: str, label: str) -> Request:
    if settings.bos and data.bos_id is None:
        raise DataError(f"{data.source}: bos = true, but no bos_id was given; pass one, or bos = false")
    return _continuations.request(
        context + settings.delimiter,
        continuation,
        data.encoder(),
        bos_id=data.bos_id if settings.bos else None,
        max_tokens=settings.max_tokens,
        label=label,
    )


def _checked(data: Items) -> Sequence[Any]:
    if not data.items:
        raise DataError(f"{data.source}: no items")
    for number, item in enumerate(data.items):
        options = _options(data, item)
        if not 0 <= item.gold < len(options):
            raise DataError(f"{data.source} item {number}: gold = {item.gold} with {len(options)} options")
        if not all(continuation for _, continuation in options):
            raise DataError(f"{data.source} item {number}: an option is empty")
    return data.items

"""Last-word prediction: is the continuation what the model would write, and how surprised is it?

Accuracy: the share of items whose continuation tokens are all the likeliest token, given the context and the tokens before
(greedy decoding would produce exactly them; of equals, the first in the vocabulary). Perplexity: exp(sum nll / sum tokens)
of the continuations, items resampled whole.
Source: D. Paperno et al., "The LAMBADA dataset", ACL 2016.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from netweight import settings as base
from netweight.errors import DataError
from netweight.evaluate import _continuations
from netweight.evaluate._bench import Bench
from netweight.evaluate._items import Items
from netweight.evaluate._samples import Additive, Sample, exp_ratio, proportion
from netweight.evaluate._task import Quantity

SUMMARY = "greedy accuracy and perplexity of a continuation"
DATA = ("continuations",)
QUANTITIES = (Quantity("lambada_accuracy", "fraction", "higher"), Quantity("lambada_perplexity", "1", "lower"))


class Settings(base.Settings):
    delimiter: str = Field(" ", description="text between context and continuation")
    max_tokens: int | None = Field(None, gt=1, description="longest sequence; a longer one loses context on the left")
    bos: bool = Field(False, description="begin every sequence with the tokenizer's BOS")


def measure(bench: Bench, data: Items, settings: Settings) -> dict[str, dict[str, Sample]]:
    """Accuracy and perplexity of every subject; one item is one independent observation."""
    if not data.items:
        raise DataError(f"{data.source}: no items")
    if settings.bos and data.bos_id is None:
        raise DataError(f"{data.source}: bos = true, but no bos_id was given; pass one, or bos = false")
    requests = [
        _continuations.request(
            item.context + settings.delimiter,
            item.continuation,
            data.encoder(),
            bos_id=data.bos_id if settings.bos else None,
            max_tokens=settings.max_tokens,
            label=f"{data.source} item {number}",
        )
        for number, item in enumerate(data.items)
    ]
    counts = {"tokens": sum(len(r.ids) - r.begin for r in requests)}
    accuracy, perplexity = (quantity.name for quantity in QUANTITIES)
    return {
        name: {
            accuracy: proportion(scored.greedy_N, "items", counts),
            perplexity: Additive(np.stack([-scored.logp_N, scored.tokens_N], 1), exp_ratio, "items", counts),
        }
        for name, scored in _continuations.score(bench, requests, f"lambada on {data.source}").items()
    }

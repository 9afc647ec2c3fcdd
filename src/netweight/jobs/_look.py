"""A trained net run once more on training slices: what rounding does, what attention tells apart, which weights oscillate.

Everything here works on a copy of the net; the run stays as it is.
"""

from __future__ import annotations

import copy
from dataclasses import asdict

import numpy as np
import torch
from torch import nn

from netweight.data import Segmentation, Split
from netweight.errors import ModelError
from netweight.evidence import Looked
from netweight.jobs._runs import Run
from netweight.models import nets
from netweight.provenance import derived_seed
from netweight.train import Drawn, OscillationReset, Quantized, Reset, bce_tversky, diagnose, handle, optimizer

SLICES = 16  # for what rounding does, and a step's batch where weights are watched
ATTENDED = 4  # slices whose attention is looked at
# steps before weights are watched, steps they are watched, and what oscillates
SETTLING, WINDOW, THRESHOLD = 8, 16, 16.0


def look(run: Run, net: nn.Module, quantized: Quantized, slices: Segmentation, split: Split) -> Looked:
    """What is seen of a net on some training slices, evenly spread over all of them; the same every time."""
    numbers = spread(split.train, SLICES)
    images, _ = Drawn(slices, run.recipe.seed).plain(numbers[:ATTENDED])
    attention, tokens = _attention(net, images)
    if not quantized.layers():
        return Looked(len(numbers), (), attention, tokens)
    return Looked(
        len(numbers), _rounding(run, net, slices, numbers), attention, tokens, _oscillating(run, net, slices, split)
    )


def spread(numbers: tuple[int, ...], most: int) -> list[int]:
    """At most so many of them, evenly spread, each once."""
    places = np.linspace(0, len(numbers) - 1, min(most, len(numbers)))
    return [numbers[int(place)] for place in places]


def _rounding(run: Run, net: nn.Module, slices: Segmentation, numbers: list[int]) -> tuple[dict, ...]:
    """Each operand of each layer in one training step, forward and backward."""
    quantized = _copied(net)
    found = diagnose(quantized, lambda: _loss(run, quantized.module, slices, numbers, 0).backward())
    return tuple(asdict(row) for row in found)


def _oscillating(run: Run, net: nn.Module, slices: Segmentation, split: Split) -> dict[str, float]:
    """The share of rounded weights that jump while a copy is trained a few steps further."""
    quantized = _copied(net)
    if quantized.recipe.learned is not None or not quantized.weights():
        return {}
    rates = [row["rate"] for row in run.training["history"]["rows"]]
    settings = run.recipe.training
    wanted = [p for p in quantized.module.parameters() if p.requires_grad]
    last = -2 if settings.schedule == "cosine" else -1  # rates are those of a pass's end, where a cosine's last is 0
    stepping = optimizer(wanted, settings, lr=rates[last] if len(rates) >= -last else settings.lr)
    watch = OscillationReset(quantized, Reset(start=SETTLING, every=WINDOW + 1, window=WINDOW, threshold=THRESHOLD))
    numbers, count = spread(split.train, SLICES * 4), 0
    for step in range(SETTLING + WINDOW):
        quantized.step = step
        batch = [numbers[(step * SLICES + k) % len(numbers)] for k in range(min(SLICES, len(numbers)))]
        stepping.zero_grad(set_to_none=True)
        _loss(run, quantized.module, slices, batch, step).backward()
        nn.utils.clip_grad_norm_(wanted, settings.clip)
        stepping.step()
        count += watch.after_step()
    total = sum(layer.weight.numel() for layer in quantized.weights().values())  # pyright: ignore[reportCallIssue]
    return {"share": count / total, "threshold": THRESHOLD, "window": WINDOW}


def _loss(run: Run, net: nn.Module, slices: Segmentation, numbers: list[int], step: int) -> torch.Tensor:
    """Of a training step on these slices as they are."""
    images, masks = Drawn(slices, run.recipe.seed).plain(numbers)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(run.recipe.seed, "looked at", step))
        return bce_tversky(net(images), masks)


def _copied(net: nn.Module) -> Quantized:
    return handle(copy.deepcopy(net).train())


def _attention(net: nn.Module, images: torch.Tensor) -> tuple[dict[str, float], int]:
    """Distinct values by layer, and how many a row could hold; nothing where the net has no such layers."""
    try:
        found = nets.attention(net, images)
    except ModelError:
        return {}, 0
    return {name: nets.distinct(rows) for name, rows in found.items()}, max(rows.shape[-1] for rows in found.values())

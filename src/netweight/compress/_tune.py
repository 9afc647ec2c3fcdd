"""Train the whole rounded model against the original: the pass that sees the last layer's output and the first layer's scales.

The original's outputs are computed once (of a language model what its head reads, from which logits follow as they are needed). Then
the rounded model takes its place, and the same loop that trains blocks trains it as one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from netweight import models
from netweight.compress import _observe
from netweight.compress._parallel import pool, return_memory
from netweight.compress._part import STEM, TAIL, Part, parts
from netweight.compress._problem import Problem, Reconstruction
from netweight.compress._select import Plan
from netweight.compress._solve import digest_of
from netweight.errors import CompressError
from netweight.formats import QTensor
from netweight.ledger import Row
from netweight.models import Model
from netweight.progress import Progress


class _Targets(Sequence[Tensor]):
    """The original's outputs, from the states that its head reads."""

    def __init__(self, states: Sequence[Tensor], head: Callable[[Tensor], Tensor]) -> None:
        self._states, self._head = states, head

    def __len__(self) -> int:
        return len(self._states)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        with torch.no_grad():
            return self._head(self._states[index])


def tune(
    model: Model,
    student: Callable[[], Model],
    qtensors: Mapping[str, QTensor],
    rows: Mapping[str, Row],
    plan: Plan,
    batches: Sequence[Any],
    *,
    threads: int,
    seed: int,
    progress: Progress,
) -> Iterator[Part]:
    """Every part of the model again, as tuned.

    Args:
      model: the original; all of it is in memory for one pass over the batches.
      student: called once that pass is done: the same module, to be filled with the rounded weights.
      qtensors: every rounded layer.
      rows: the ledger so far.
    Raises:
      CompressError: of the method.
    """
    step = plan.tuning
    if step is None:
        return
    if model.kind != "causal-lm" and str(getattr(step.settings, "loss", {}).get("use", "")).startswith("kl"):
        raise CompressError(f'{step.use}: {model.name} gives no logits for kl to compare; use loss = "mse" or "cosine"')
    with torch.no_grad(), models.evaluating(model.module), pool(threads) as workers, ExitStack() as evaluated:
        progress("the original's outputs", 0, len(batches))
        models.release(model, "")  # what the walker left is no longer the original
        models.materialize(model, "")
        states = list(workers.map(lambda batch: models.final_states(model, model.module, batch).clone(), batches))
        progress("the original's outputs", len(batches), len(batches))
        head = _head(model)
        model = student()
        models.materialize(model, "")
        return_memory()
        evaluated.enter_context(models.evaluating(model.module))  # of a live module this is another copy
        lot = {name: q for name, q in qtensors.items() if plan.assignments[name].tuning}
        problem = Problem(
            name="",
            module=model.module,
            layers={name: name for name in lot},
            formats={name: q.format for name, q in lot.items()},
            run=lambda module, number: models.run_model(model, module, batches[number]),
            targets=[_Targets(states, head)],
            moments=dict,
            feeds=(),
            pool=workers,
            seed=seed,
            progress=progress,
            channels=_channels(model, batches[0]),
        )
        found: Reconstruction = step.plugin.transform(problem, lot, step.settings)
        yield from _parts(model, found, qtensors, rows, batches)


def _channels(model: Model, batch: Any) -> int:
    """Axis of the outputs that holds what one token or pixel is made of."""
    if model.kind != "module":
        return -1
    return _observe.channel_axis(model.module, lambda given: models.run_model(model, model.module, given), batch)


def _head(model: Model) -> Callable[[Tensor], Tensor]:
    """The original's own head, kept when its other weights go; the states themselves where there is none."""
    if model.kind != "causal-lm":
        return lambda states: states
    head = model.module.get_submodule(model.family.head)
    if not isinstance(head, nn.Linear):
        raise CompressError(
            f"{model.name}: its head is a {type(head).__name__}; only linear heads can be followed here"
        )
    weight, bias = head.weight.detach().clone(), None if head.bias is None else head.bias.detach().clone()
    return lambda states: nn.functional.linear(states, weight, bias)


def _parts(
    model: Model,
    found: Reconstruction,
    qtensors: Mapping[str, QTensor],
    rows: Mapping[str, Row],
    batches: Sequence[Any],
) -> Iterator[Part]:
    """What was found put in place and cut into parts, with what each gives on the first batch."""
    tuned = dict(qtensors)
    for piece in found.pieces:
        if (solution := piece.solution()) is not None:
            tuned[piece.name] = solution.qtensor
            models.set_matrix(model.module.get_submodule(piece.name), solution.qtensor.decode())
        else:
            for name, value in piece.tensors().items():
                model.module.get_parameter(name).copy_(value)
    names, inputs = parts(model), models.capture_block_inputs(model, batches[:1], keep=True)[0]
    outside = models.tensors_outside(model) if model.named_blocks else models.rest(model)
    below = {name: (name,) for name in names} | {STEM: models.stem(model), TAIL: outside}
    inner = models.outputs_of_parts(model, batches[0]) if model.named_blocks else None
    hidden = inputs.hidden
    for index, name in enumerate(names):
        if inner is not None:
            hidden = next(inner)[1]
        elif names == ("",):
            hidden = models.first_tensor(models.run_block(model.module, *inputs.call(0))[0])
        elif name == TAIL:
            hidden = models.run_tail(model, hidden[:1])
        elif name != STEM:
            hidden = models.run_block(model.module.get_submodule(name), *inputs.call(index - 1, hidden))[0]
        inside = {layer: q for layer, q in tuned.items() if _part_of(layer, names, below) == name}
        kept = models.stored_tensors(model, below[name])
        quantized = {models.weight_name(layer) for layer in inside}
        yield Part(
            index,
            name,
            inside,
            {key: value for key, value in kept.items() if key not in quantized},
            tuple(
                replace(row, notes=(*row.notes, found.note)) if layer in inside and found.note else row
                for layer, row in rows.items()
                if _part_of(layer, names, below) == name
            ),
            [hidden],
            digest_of(hidden),
            {layer: digest_of(q.decode()) for layer, q in inside.items()},
        )


def _part_of(layer: str, names: Sequence[str], below: Mapping[str, Sequence[str]]) -> str:
    for name in names:
        if "" in below[name] or models.below(layer, below[name]):
            return name
    return names[-1]

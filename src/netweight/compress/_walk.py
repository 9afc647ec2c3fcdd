"""The one walker: block by block, quantized outputs fed forward, one block's weights in memory at a time.

Each block is materialized, its layers are done as the plan says (``_hands``), and its outputs become the next block's inputs. Where
blocks are trained, the original model's outputs are kept beside the quantized model's. What comes before the first block ("stem")
and after the last one ("tail") are parts of their own. Each finished part is handed out before the next begins, together with the
outputs, so that a caller can store both and start again there.

A plain module is one part, or cut into blocks that its owner named (``models.cut``). Then each block's inputs are what the module, as far
as it is rounded, feeds it, found by running it up to there; a copy of the original is run the same way for what to come close to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from netweight import models
from netweight.compress import _observe, _reconstruct
from netweight.compress._hands import Hands, Waiting
from netweight.compress._inner import Inner
from netweight.compress._parallel import pool, return_memory
from netweight.compress._part import STEM, TAIL, Part, parts
from netweight.compress._select import Plan
from netweight.compress._states import Joined, States
from netweight.models import Model


def walk(
    model: Model,
    plan: Plan,
    batches: Sequence[Any],
    *,
    threads: int,
    start: int = 0,
    hidden: Sequence[Tensor] = (),
    waiting: Waiting = "repeat",
    scratch: Path | None = None,
    seed: int = 0,
    put_back: Callable[[nn.Module], None] | None = None,
) -> Iterator[Part]:
    """Compress part by part.

    Args:
      model: its weights are read as they are needed and, for a streamed model, dropped again.
      plan: which steps each layer gets.
      batches: calibration batches; the first is also what digests are taken of. May be empty for a module that no
        step needs data for.
      threads: whole batches and whole layers are handed to this many threads; the result does not depend on it.
      start: index of the first part to do; ``hidden`` are then the outputs of the part before.
      waiting: what batches do while a stage is rounded: "hold" where they are, or "repeat" the pass from the block's
        beginning, which takes about twice the time and the least memory. The result is the same, bit for bit.
      scratch: a folder for a file with what runs from one block to the next; in memory without it.
      seed: of the methods that draw at random.
      put_back: puts the parts before ``start`` in place, of a plain module that is cut into blocks.
    Yields:
      Every part from ``start`` on.
    Raises:
      CompressError: a method failed. PartialError: a layer whose inputs it needs never ran, and the plan is not partial.
      NotFiniteError: NaN or Inf.
    """
    names = parts(model)
    with torch.no_grad(), models.evaluating(model.module), pool(threads) as workers:
        work = _Walk(model, plan, workers, waiting, scratch, seed)
        if names == ("",):
            yield work.whole(batches)
            return
        if model.named_blocks:
            yield from Inner(work).walk(batches, start, put_back)
            return
        if start == 0:
            first, inputs = work.stem(batches)
            start, hidden = 1, first.hidden
            yield first
            del first
        else:
            inputs = models.capture_block_inputs(model, batches)
        inputs = [replace(found, hidden=None) for found in inputs]  # the state takes over
        state = work.states(hidden[: len(inputs)])
        if plan.trains:
            work.original = work.states(hidden[len(inputs) :])
        hidden = ()
        for index in range(start, len(names) - 1):
            yield work.block(index, names[index], inputs, state)
        yield work.tail(len(names) - 1, state)


class _Walk(Hands):
    """Stem, block and tail of a model whose family is known, or a whole module at once."""

    original: States | None = None  # what runs through the original model, where blocks are trained

    def stem(self, batches: Sequence[Any]) -> tuple[Part, list[models.BlockInputs]]:
        """Embeddings and whatever else runs before the first block; a head that shares their weight is done here too."""
        prefixes = models.stem(self.model)
        names = [n for n, a in self.plan.assignments.items() if a.block is None and models.below(n, prefixes)]
        originals: list[Tensor] = []
        if self.plan.trains:
            originals = [found.hidden for found in models.capture_block_inputs(self.model, batches)]
        for prefix in prefixes:
            models.materialize(self.model, prefix)
        done = self.solve_all(dict.fromkeys(self.own(names)))
        tensors = models.stored_tensors(self.model, prefixes)
        inputs = models.capture_block_inputs(self.model, batches)  # drops the stem from memory
        hidden = [found.hidden for found in inputs]
        self.check_finite(STEM, hidden)
        return self.part(0, STEM, names, done, tensors, [*hidden, *originals]), inputs

    def block(self, index: int, name: str, inputs: Sequence[models.BlockInputs], state: States) -> Part:
        """One block. ``state`` holds its inputs, batch by batch, and its outputs afterwards."""
        models.materialize(self.model, name)
        block = self.modules[name]

        def run(number: int) -> Tensor:
            return models.run_block(block, *inputs[number].call(index - 1, state[number]))[0]

        names = [n for n, a in self.plan.assignments.items() if a.block == name]
        batches = range(len(state))
        site = after = None
        if (original := self.original) is not None:

            def first(number: int) -> Tensor:
                return models.run_block(block, *inputs[number].call(index - 1, original[number]))[0]

            def forward(module: nn.Module, number: int, quantized: bool) -> Tensor:
                fed = state if quantized else original
                return models.call_block(module, *inputs[number].call(index - 1, fed[number]))

            after = self.states(self.pool.map(first, batches))
            site = _reconstruct.Site(block, name, forward, after, self._second(names, run, batches))
        done = self.compress(name, names, run, batches, keep=state.put, site=site)
        self.check_finite(name, state)
        self.original = after
        held = state if after is None else Joined(state, after)
        part = self.part(index, name, names, done, models.stored_tensors(self.model, (name,)), held)
        models.release(self.model, name)
        return_memory()
        return part

    def tail(self, index: int, hidden: Sequence[Tensor]) -> Part:
        """Final norm, head, and whatever else is neither stem nor block."""
        prefixes = models.rest(self.model)
        for prefix in prefixes:
            models.materialize(self.model, prefix)
        self._restore(self._tied_owners(prefixes))
        stem = models.stem(self.model)
        names = [n for n, a in self.plan.assignments.items() if a.block is None and not models.below(n, stem)]

        def run(state: Tensor) -> Tensor:
            return models.run_tail(self.model, state)

        done = self.compress(TAIL, self.own(names), run, hidden, keep=None)
        end = [run(hidden[0][:1])]
        self.check_finite(TAIL, end)
        part = self.part(index, TAIL, names, done, models.stored_tensors(self.model, prefixes), end)
        for prefix in prefixes:
            models.release(self.model, prefix)
        return part

    def whole(self, batches: Sequence[Any]) -> Part:
        """A module without blocks: one part."""
        module = self.model.module
        models.materialize(self.model, "")
        calls = [found.call(0) for found in models.capture_block_inputs(self.model, batches)] if batches else []

        def run(number: int) -> Any:
            with models.readable(self.model, number):
                return models.run_block(module, *calls[number])[0]

        names = list(self.plan.assignments)
        site = None
        if self.plan.trains:

            def forward(module: nn.Module, number: int, quantized: bool) -> Tensor:
                return models.first_tensor(models.call_block(module, *calls[number]))

            outputs = self.pool.map(lambda number: _reconstruct.floating("the module", run(number)), range(len(calls)))
            channels = _observe.channel_axis(module, run, 0)
            site = _reconstruct.Site(module, "", forward, self.states(outputs), None, channels)
        done = self.compress("", self.own(names), run, range(len(calls)), keep=None, site=site)
        outputs = [models.first_tensor(run(0))] if calls else []
        self.check_finite("the module", outputs)
        return self.part(0, "", names, done, models.stored_tensors(self.model, ("",)), outputs)

    def _tied_owners(self, prefixes: Sequence[str]) -> list[str]:
        """Layers of the stem whose weight something below these prefixes shares."""
        owners = [a.tied_to for n, a in self.plan.assignments.items() if a.tied_to and models.below(n, prefixes)]
        return [name for name in dict.fromkeys(owners) if self.plan.assignments[name].rounding]

    def _restore(self, owners: Sequence[str]) -> None:
        """The stem's result again, for a head that shares it. In a live module it still is in place."""
        self.solve_all({name: None for name in owners if not (self.model.live and name in self.rounded)})

    def _second(self, names: Sequence[str], run: Any, batches: Sequence[int]) -> States | None:
        """The original block's outputs on the quantized model's states, for methods that are to match those too."""
        steps = [self.plan.assignments[name].rounding for name in names]
        wanted = any(getattr(step.settings, "aug_loss", False) for step in steps if step)
        return self.states(self.pool.map(run, batches)) if wanted else None

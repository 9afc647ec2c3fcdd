"""The one walker: block by block, quantized outputs fed forward, one block's weights in memory at a time.

For each block: materialize it; fold channel scales (methods with ``rescale``) from statistics of the block as it came;
then stage by stage - the layers that read one tensor - gather input statistics with all earlier stages already rounded, and round.
Layers that a block method is to do come last, all of the block together, trained against what the original block gave: the original
model's outputs are then kept beside the quantized model's. The block's outputs become the next block's inputs. What comes before the first block ("stem") and after the last one
("tail") are parts of their own. Each finished part is handed out before the next begins, together with the outputs, so
that a caller can store both and start again there.

A plain module is one part, or cut into blocks that its owner named (``models.cut``). Then each block's inputs are what the module, as far
as it is rounded, feeds it, found by running it up to there; a copy of the original is run the same way for what to come close to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from netweight import formats, models
from netweight.compress import _observe, _reconstruct, _rescale
from netweight.compress._inner import Inner, floating
from netweight.compress._parallel import Pool, pool, return_memory
from netweight.compress._part import STEM, TAIL, Part, parts
from netweight.compress._plugin import Moments
from netweight.compress._relay import Relay
from netweight.compress._select import Plan, planned_row
from netweight.compress._solve import Done, digest_of, needs_moments, solve
from netweight.compress._states import Held, Joined, Spilled, States
from netweight.errors import NotFiniteError, PartialError
from netweight.ledger import Row
from netweight.models import Model

Waiting = Literal["hold", "repeat"]
Keep = Callable[[int, Tensor], None]


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


class _Walk:
    """The walker's hands: one model, one plan, one pool."""

    def __init__(
        self, model: Model, plan: Plan, workers: Pool, waiting: Waiting, scratch: Path | None, seed: int
    ) -> None:
        self.model, self.plan, self.pool, self.waiting = model, plan, workers, waiting
        self.scratch, self.seed = scratch, seed
        self.original: States | None = None  # what runs through the original model, where blocks are trained
        self.modules = dict(model.module.named_modules())
        self.rounded: set[str] = set()
        self.left: dict[str, str] = {}  # layers that were to be rounded, and why they were not

    def states(self, states: Iterable[Tensor]) -> States:
        """Kept until the next block needs them."""
        return Held(states) if self.scratch is None else Spilled(states, self.scratch)

    def stem(self, batches: Sequence[Any]) -> tuple[Part, list[models.BlockInputs]]:
        """Embeddings and whatever else runs before the first block; a head that shares their weight is done here too."""
        prefixes = models.stem(self.model)
        names = [n for n, a in self.plan.assignments.items() if a.block is None and _below(n, prefixes)]
        originals: list[Tensor] = []
        if self.plan.trains:
            originals = [found.hidden for found in models.capture_block_inputs(self.model, batches)]
        for prefix in prefixes:
            models.materialize(self.model, prefix)
        done = self._solve_all(dict.fromkeys(n for n in names if not self._tied(n)))
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
        names = [n for n, a in self.plan.assignments.items() if a.block is None and not _below(n, stem)]

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

            outputs = self.pool.map(lambda number: floating("the module", run(number)), range(len(calls)))
            channels = _observe.channel_axis(module, run, 0)
            site = _reconstruct.Site(module, "", forward, self.states(outputs), None, channels)
        done = self.compress("", self.own(names), run, range(len(calls)), keep=None, site=site)
        outputs = [models.first_tensor(run(0))] if calls else []
        self.check_finite("the module", outputs)
        return self.part(0, "", names, done, models.stored_tensors(self.model, ("",)), outputs)

    def own(self, names: Sequence[str]) -> list[str]:
        """Those whose weight is not another layer's."""
        return [name for name in names if not self._tied(name)]

    def _tied_owners(self, prefixes: Sequence[str]) -> list[str]:
        """Layers of the stem whose weight something below these prefixes shares."""
        owners = [a.tied_to for n, a in self.plan.assignments.items() if a.tied_to and _below(n, prefixes)]
        return [name for name in dict.fromkeys(owners) if self.plan.assignments[name].rounding]

    def _restore(self, owners: Sequence[str]) -> None:
        """The stem's result again, for a head that shares it. In a live module it still is in place."""
        self._solve_all({name: None for name in owners if not (self.model.live and name in self.rounded)})

    def _tied(self, name: str) -> bool:
        return bool(self.plan.assignments[name].tied_to)

    def _second(self, names: Sequence[str], run: Any, batches: Sequence[int]) -> States | None:
        """The original block's outputs on the quantized model's states, for methods that are to match those too."""
        steps = [self.plan.assignments[name].rounding for name in names]
        wanted = any(getattr(step.settings, "aug_loss", False) for step in steps if step)
        return self.states(self.pool.map(run, batches)) if wanted else None

    def compress(
        self,
        part: str,
        names: Sequence[str],
        run: Any,
        inputs: Sequence[Any],
        *,
        keep: Keep | None,
        site: _reconstruct.Site | None = None,
    ) -> dict[str, Done]:
        """Rescale, round stage by stage, then train. ``keep`` gets the outputs with every layer rounded, batch by batch."""
        chosen = {n: self.modules[n] for n in names if self.plan.assignments[n].rounding}
        notes: dict[str, list[str]] = {name: [] for name in chosen}
        if any(self.plan.assignments[n].rescaling for n in chosen):
            feeds = self._feeds(part)
            _rescale.rescale(self.model.module, self.plan, feeds, chosen, self.modules, run, inputs, self.pool, notes)
        for name, module in chosen.items():  # from here on all see what the layers will read
            models.round_inputs(module, self.plan.assignments[name].activations)
        trained = {n: m for n, m in chosen.items() if self.plan.assignments[n].trained}
        chosen = {n: m for n, m in chosen.items() if n not in trained}
        if not any(needs_moments(self.plan.assignments[n]) for n in chosen):
            done = self._solve_all(dict.fromkeys(chosen), notes)
        else:
            stages = _observe.stages(chosen, run, inputs[0])
            if keep is not None and not trained and self.waiting == "hold" and all(stage.once for stage in stages):
                return self._relay(stages, chosen, run, inputs, notes, keep)
            done = {}
            for stage in stages:
                seen = None
                if any(needs_moments(self.plan.assignments[n]) for n in stage.layers):
                    (seen,) = _observe.moments([stage], chosen, run, inputs, self.pool)
                done |= self._solve_all({n: seen for n in stage.layers if self._can_be_rounded(n, seen)}, notes)
        if trained and site is not None:
            done |= self._train(part, trained, run, inputs, notes, site)
        if keep is not None:
            for number, output in enumerate(self.pool.map(run, inputs)):
                keep(number, output)
        return done

    def _train(
        self,
        part: str,
        trained: dict[str, nn.Module],
        run: Any,
        inputs: Sequence[Any],
        notes: dict[str, list[str]],
        site: _reconstruct.Site,
    ) -> dict[str, Done]:
        """Layers of one method and settings together; where a block has several, one lot after the other."""
        stages = _observe.stages(trained, run, inputs[0])
        reached = {name for stage in stages if stage.reached for name in stage.layers}
        lot = {n: m for n, m in trained.items() if n in reached or self._can_be_rounded(n, None)}
        watched = _reconstruct.Watched(run, inputs, self._feeds(part), self.pool, self.seed)
        done: dict[str, Done] = {}
        for problem in _reconstruct.problems(site, lot, self.plan, watched):
            done |= _reconstruct.solve(problem, self.plan, notes)
        self.rounded |= done.keys()
        return done

    def _feeds(self, part: str) -> tuple[models.Feed, ...]:
        return models.feeds(self.model, part) if part not in (TAIL, STEM) else ()

    def _relay(
        self,
        stages: Sequence[_observe.Stage],
        chosen: dict[str, nn.Module],
        run: Any,
        inputs: Sequence[Any],
        notes: dict[str, list[str]],
        keep: Keep,
    ) -> dict[str, Done]:
        """All stages in one forward pass per batch."""
        done: dict[str, Done] = {}
        with Relay(stages, chosen, lambda number: run(inputs[number]), len(inputs), self.pool.threads) as relay:
            for number, stage in enumerate(stages):
                done |= self._solve_all(dict.fromkeys(stage.layers, relay.moments(number)), notes)
            relay.outputs(keep)
        return done

    def _can_be_rounded(self, name: str, stats: Moments | None) -> bool:
        """False for a layer that is left alone because no batch reached it, which only a partial plan allows."""
        assignment = self.plan.assignments[name]
        if stats is not None or not (needs_moments(assignment) or assignment.trained):
            return True
        reason = f"{' and '.join(assignment.step_names)} needs its inputs, but it never ran on the calibration data"
        if not self.plan.partial:
            raise PartialError(f"{name}: {reason}; use more or other data, skip it, or pass allow_partial")
        self.left[name] = reason
        return False

    def _solve_all(
        self, stats: dict[str, Moments | None], notes: dict[str, list[str]] | None = None
    ) -> dict[str, Done]:
        """Round these layers, in threads, and put the decoded weights in place."""
        rounded = [name for name in stats if self.plan.assignments[name].rounding]

        def one(name: str) -> Done:
            return solve(
                self.plan.assignments[name], self.modules[name], stats[name], tuple((notes or {}).get(name, ()))
            )

        return_memory()  # before and after: rounding and running would keep to themselves what the other could use
        done = dict(zip(rounded, self.pool.map(one, rounded), strict=True))
        return_memory()
        for name, result in done.items():
            models.set_matrix(self.modules[name], result.decoded)
        self.rounded |= done.keys()
        return {name: replace(result, decoded=None) for name, result in done.items()}

    def part(
        self,
        index: int,
        name: str,
        layers: Sequence[str],
        done: dict[str, Done],
        tensors: dict[str, Tensor],
        hidden: Sequence[Tensor],
    ) -> Part:
        if not self.model.named_blocks:  # there what comes later is fed by running these again
            self.forget_inputs(layers)
        quantized = {models.weight_name(layer) for layer in done}
        tensors = {key: value for key, value in tensors.items() if key not in quantized}
        rows = tuple(self._row(layer, done) for layer in layers)
        return Part(
            index,
            name,
            {layer: result.solution.qtensor for layer, result in done.items()},
            tensors,
            rows,
            hidden,
            digest_of(hidden[0]) if hidden else "",
            {layer: result.digest for layer, result in done.items()},
        )

    def forget_inputs(self, layers: Iterable[str]) -> None:
        """Layers read what comes as it is again: the module may be used further, with other weights."""
        for layer in layers:
            models.round_inputs(self.modules[layer], "")

    def _row(self, name: str, done: dict[str, Done]) -> Row:
        assignment = self.plan.assignments[name]
        reason = self.left.get(assignment.tied_to or name)
        if reason is not None:
            assignment = replace(assignment, rescaling=(), rounding=None, reason=reason)
        kept = models.kept_bytes(self.model, models.weight_name(name))
        planned = planned_row(assignment, models.stored_bytes(self.model, name), kept)
        result = done.get(name)
        if result is None:
            return replace(planned, action="quantized") if planned.action == "planned" else planned
        return replace(
            planned,
            action="quantized",
            weight_error=result.weight_error,
            output_error=result.output_error,
            samples=result.samples,
            notes=(*planned.notes, *result.notes, *result.solution.notes),
            fallback=result.solution.fallback,
        )

    def check_finite(self, name: str, outputs: Sequence[Tensor]) -> None:
        for number, output in enumerate(outputs):
            if formats.not_finite(output):
                raise NotFiniteError(f"{name}: its output on calibration batch {number} holds NaN or Inf")


def _below(name: str, prefixes: Sequence[str]) -> bool:
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)

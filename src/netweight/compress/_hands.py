"""What the walker does in every part of a model: rescale, round stage by stage, train, and write down what came of it.

Channel scales are folded first (methods with ``rescale``), from statistics of the part as it came. Then stage by stage - the layers
that read one tensor - input statistics are gathered with all earlier stages already rounded, and the stage is rounded. Layers that
a block method is to do come last, all of the part together, trained against what the original gave.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from netweight import formats, models
from netweight.compress import _observe, _reconstruct, _rescale
from netweight.compress._parallel import Pool, return_memory
from netweight.compress._part import STEM, TAIL, Part
from netweight.compress._plugin import Moments
from netweight.compress._relay import Relay
from netweight.compress._select import Plan, planned_row
from netweight.compress._solve import Done, digest_of, needs_moments, solve
from netweight.compress._states import Held, Spilled, States
from netweight.errors import NotFiniteError, PartialError
from netweight.ledger import Row
from netweight.models import Model

Waiting = Literal["hold", "repeat"]
Keep = Callable[[int, Tensor], None]


class Hands:
    """The walker's hands: one model, one plan, one pool."""

    def __init__(
        self, model: Model, plan: Plan, workers: Pool, waiting: Waiting, scratch: Path | None, seed: int
    ) -> None:
        self.model, self.plan, self.pool, self.waiting = model, plan, workers, waiting
        self.scratch, self.seed = scratch, seed
        self.modules = dict(model.module.named_modules())
        self.rounded: set[str] = set()
        self.left: dict[str, str] = {}  # layers that were to be rounded, and why they were not

    def states(self, states: Iterable[Tensor]) -> States:
        """Kept until the next block needs them."""
        return Held(states) if self.scratch is None else Spilled(states, self.scratch)

    def own(self, names: Sequence[str]) -> list[str]:
        """Those whose weight is not another layer's."""
        return [name for name in names if not self.plan.assignments[name].tied_to]

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
            done = self.solve_all(dict.fromkeys(chosen), notes)
        else:
            stages = _observe.stages(chosen, run, inputs[0])
            if keep is not None and not trained and self.waiting == "hold" and all(stage.once for stage in stages):
                return self._relay(stages, chosen, run, inputs, notes, keep)
            done = {}
            for stage in stages:
                seen = None
                if any(needs_moments(self.plan.assignments[n]) for n in stage.layers):
                    (seen,) = _observe.moments([stage], chosen, run, inputs, self.pool)
                done |= self.solve_all({n: seen for n in stage.layers if self._can_be_rounded(n, seen)}, notes)
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
                done |= self.solve_all(dict.fromkeys(stage.layers, relay.moments(number)), notes)
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

    def solve_all(self, stats: dict[str, Moments | None], notes: dict[str, list[str]] | None = None) -> dict[str, Done]:
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

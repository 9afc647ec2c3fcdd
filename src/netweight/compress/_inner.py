"""The walk through the blocks that a recipe names inside a plain module, joined in whatever way.

Before each block the module, as far as it is rounded, runs up to it on every batch; a copy of the original is run the same way for
what to come close to. What lies in no block comes last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from netweight import models
from netweight.compress import _observe, _reconstruct
from netweight.compress._fed import Fed
from netweight.compress._hands import Hands
from netweight.compress._parallel import return_memory
from netweight.compress._part import TAIL, Part
from netweight.compress._select import Assignment
from netweight.compress._solve import needs_moments
from netweight.models import Model


class Inner:
    """Block after block of one plain module."""

    def __init__(self, hands: Hands) -> None:
        self.hands = hands

    def walk(self, batches: Sequence[Any], start: int, put_back: Callable[[nn.Module], None] | None) -> Iterator[Part]:
        """A plain module in the blocks its owner named, then what lies in none of them."""
        models.materialize(self.hands.model, "")
        original = None
        if self.hands.plan.trains:
            original = models.copied(self.hands.model)
            models.materialize(original, "")
            original.module.eval()
        if put_back is not None:
            put_back(self.hands.model.module)
        blocks = models.blocks(self.hands.model)
        for index, name in enumerate(blocks[start:], start):
            yield self.inner(index, name, batches, original)
        yield self.outside(len(blocks), batches)

    def inner(self, index: int, name: str, batches: Sequence[Any], original: Model | None) -> Part:
        """One block somewhere inside a plain module. ``original`` is the model as it came, where blocks are trained."""
        block = self.hands.modules[name]
        names = [n for n, a in self.hands.plan.assignments.items() if a.block == name]
        own = self.hands.own(names)
        assigned = [self.hands.plan.assignments[n] for n in own]
        busy = any(a.trained or a.rescaling or needs_moments(a) for a in assigned)
        fed = self._fed(self.hands.model, name, batches if busy else batches[:1])

        def run(number: int) -> Any:
            with models.readable(self.hands.model, number):
                return models.run_block(block, *fed[number])[0]

        site = None
        if original is not None and any(a.trained for a in assigned):
            site = self._site(name, fed, batches, original, assigned, _observe.channel_axis(block, run, 0))
        done = self.hands.compress(name, own, run, range(len(fed)), keep=None, site=site)
        output = models.first_tensor(run(0))
        self.hands.check_finite(name, [output])
        part = self.hands.part(index, name, names, done, models.stored_tensors(self.hands.model, (name,)), [output])
        return_memory()
        return part

    def _site(
        self,
        name: str,
        fed: Fed,
        batches: Sequence[Any],
        original: Model,
        assigned: Sequence[Assignment],
        channels: int,
    ) -> _reconstruct.Site:
        """A block of a plain module for methods that train: what it is fed now, and what its original gave."""
        settings = [a.rounding.settings for a in assigned if a.rounding]
        first = original.module.get_submodule(name)
        before = fed
        if any(getattr(s, "inputs", "quantized") == "original" for s in settings):
            before = self._fed(original, name, batches)
        with models.reaching(original, name) as reach:

            def gave(number: int) -> Tensor:
                call = reach(number, batches[number])
                with models.readable(original, number):
                    return _reconstruct.floating(name, models.run_block(first, *call)[0])

            targets = self.hands.states(self.hands.pool.map(gave, range(len(batches))))
        again = None
        if any(getattr(s, "aug_loss", False) for s in settings):

            def gives(number: int) -> Tensor:
                return _reconstruct.floating(name, models.run_block(first, *fed[number])[0])

            again = self.hands.states(self.hands.pool.map(gives, range(len(fed))))

        def forward(module: nn.Module, number: int, quantized: bool) -> Tensor:
            return models.first_tensor(models.call_block(module, *(fed if quantized else before)[number]))

        return _reconstruct.Site(self.hands.modules[name], name, forward, targets, again, channels)

    def outside(self, index: int, batches: Sequence[Any]) -> Part:
        """What lies in no block: layers that did not run, and tensors that are not layers' weights."""
        module = self.hands.model.module
        calls = [models.plain_call(self.hands.model, batch) for batch in batches]

        def run(number: int) -> Any:
            with models.readable(self.hands.model, number):
                return models.run_block(module, *calls[number])[0]

        names = [n for n, a in self.hands.plan.assignments.items() if a.block is None]
        done = self.hands.compress(TAIL, self.hands.own(names), run, range(len(calls)), keep=None)
        outputs = [models.first_tensor(run(0))]
        self.hands.check_finite("the module", outputs)
        tensors = models.stored_tensors(self.hands.model, models.tensors_outside(self.hands.model))
        self.hands.forget_inputs(self.hands.plan.assignments)
        return self.hands.part(index, TAIL, names, done, tensors, outputs)

    def _fed(self, model: Model, name: str, batches: Sequence[Any]) -> Fed:
        with models.reaching(model, name) as reach:
            calls = self.hands.pool.map(lambda number: reach(number, batches[number]), range(len(batches)))
            return Fed(calls, self.hands.states)

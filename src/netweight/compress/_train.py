"""Train what decides a block's weights so that the block gives what its original gave: the loop all block methods share.

A step takes a few calibration batches. Each layer's weight is computed once from what is trained; every batch then goes through
the block on a thread of its own, and its gradients come back for the weights; their sum goes back through the layers. Sums
are taken in a fixed order, so that the number of threads does not change a bit.

Some batches are held out of training: they choose the best step. A step that is not finite, or a loss that runs away, sends training
back to the best found so far with half the rates; the outcome says so.
"""

from __future__ import annotations

import copy
import math
import queue
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from netweight import losses, models
from netweight.compress._problem import Piece, Problem, Reconstruction, Training
from netweight.compress._schedule import Schedule, optimizer_of, share_at
from netweight.errors import CompressError
from netweight.losses import Loss

RETRIES = 5  # times the rates are halved before the best found so far is kept
RUNAWAY = 10.0  # a held-out loss this many times that of the start has run away
FEWEST_HELD = 4  # with fewer batches than this all are trained on, and choose the best step too


@dataclass
class Outcome:
    """How training went: the held-out loss and its terms before and after."""

    before: dict[str, float]
    after: dict[str, float]
    steps: int
    best: int
    halved: int
    factor: float | None
    held_out: bool  # or are the batches that choose those that were trained on?

    def note(self) -> str:
        parts = [f"{name} {self.before[name]:.4g} to {self.after[name]:.4g}" for name in self.before if name != "total"]
        where = "held-out batches" if self.held_out else "the batches trained on"
        text = f"{', '.join(parts)} on {where}; best of {self.steps} steps: {self.best}"
        if self.factor not in (None, 1.0):
            text += f"; sliced_wasserstein times {self.factor:.3g}"
        return text + (f"; diverged, rates halved {self.halved} times" if self.halved else "")


class _Diverged(Exception):
    pass


class Trainer:
    """One block, its pieces, and copies of the block for the threads."""

    def __init__(self, problem: Problem, pieces: Sequence[Piece], settings: Training) -> None:
        if not problem.targets or not problem.targets[0]:
            raise CompressError(f"{problem.name}: there are no calibration batches to train on")
        self.problem, self.pieces, self.settings = problem, list(pieces), settings
        self.half, self.said = models.bf16_or_why_not(settings.precision)
        self.loss: Loss = losses.make(settings.loss).begun()
        self.leaves = _leaves(self.pieces)
        self.train, self.held = _divided(len(problem.targets[0]), settings.held_out)
        self.idle: queue.SimpleQueue[nn.Module] = queue.SimpleQueue()
        for _ in range(problem.pool.threads):
            self.idle.put(_skeleton(problem.module))
        self.drawn = self._order()  # goes on from phase to phase, as do the steps taken: nothing is drawn twice
        self.taken = 0
        self.outcome: Outcome | None = None
        self.begun: tuple[dict[str, float], list[Tensor]] | None = None
        # self-scaling is settled here, on the first batch, before any thread could be the first by chance
        self._losses(self._values(), self.train[0], "factor")

    def held_loss(self) -> dict[str, float]:
        """The loss and its terms on the batches that choose, always with the same directions."""
        values = self._values()
        found = list(self.problem.pool.map(lambda n: self._losses(values, n, "held"), self.held))
        return {key: math.fsum(row[key] for row in found) / len(found) for key in found[0]}

    def phase(self, schedule: Schedule) -> Outcome:
        """A run of steps. The pieces hold the result."""
        before = self.held_loss()
        if not math.isfinite(before["total"]):
            raise CompressError(f"{self.problem.name}: its loss is not finite before training has begun")
        best, best_step, kept = before, 0, self._snapshot()
        halved, step = 0, 0
        while True:
            try:
                for step in self._steps(schedule, 0.5**halved):
                    found = self.held_loss()
                    self.problem.progress("train", step, schedule.steps, f"held-out loss {found['total']:.4g}")
                    if not found["total"] < RUNAWAY * max(before["total"], 1e-12):
                        raise _Diverged
                    if found["total"] < best["total"]:
                        best, best_step, kept = found, step, self._snapshot()
                break
            except _Diverged:
                self._restore(kept)
                halved += 1
                if halved > RETRIES:
                    break
        if schedule.choose or halved > RETRIES:
            self._restore(kept)
            after = best
        else:
            after, best_step = self.held_loss(), schedule.steps
        self.outcome = self._joined(self._outcome(before, after, schedule.steps, best_step, halved))
        return self.outcome

    def from_here(self) -> None:
        """What the pieces hold now is where training begins, and what is kept should it not get better."""
        found = self.held_loss()
        self.begun = found, self._snapshot()
        self.outcome = self._outcome(found, found, 0, 0, 0)

    def to_here(self) -> None:
        """What the pieces hold now is the result, unless it is worse than where training began."""
        if self.outcome is None or self.begun is None:
            raise RuntimeError("from_here comes before to_here")
        before, kept = self.begun
        after = self.held_loss()
        if not after["total"] < before["total"]:
            self._restore(kept)
            self.outcome.after, self.outcome.best = before, 0
        else:
            self.outcome.after = after

    def result(self) -> Reconstruction:
        """What was found, with a note of how training went."""
        went = self.outcome.note() if self.outcome else ""
        return Reconstruction(self.pieces, "; ".join(part for part in (went, self.said) if part))

    def _joined(self, new: Outcome) -> Outcome:
        """This run of steps after those before it."""
        old = self.outcome
        if old is None:
            return new
        best = old.best if not new.best else old.steps + new.best
        return self._outcome(old.before, new.after, old.steps + new.steps, best, old.halved + new.halved)

    def _outcome(
        self, before: dict[str, float], after: dict[str, float], steps: int, best: int, halved: int
    ) -> Outcome:
        return Outcome(before, after, steps, best, halved, self.loss.factor, self.held != self.train)

    def _steps(self, schedule: Schedule, share: float) -> Iterator[int]:
        """Steps done, after every pass over the batches and at the end."""
        optimizer = optimizer_of(self.pieces, schedule, share)
        per_pass = max(1, len(self.train) // self.settings.batch)
        for step in range(schedule.steps):
            numbers = [next(self.drawn) for _ in range(min(self.settings.batch, len(self.train)))]
            gradients = self._gradients(numbers)
            self.taken += 1
            for leaf in optimizer.leaves:
                leaf.grad = gradients.get(id(leaf))
            optimizer.step(share_at(schedule, step))
            self._keep_within(schedule.bounds)
            self.problem.progress("train", step + 1, schedule.steps)
            if (step + 1) % per_pass == 0 or step + 1 == schedule.steps:
                yield step + 1

    def _keep_within(self, bounds: Mapping[str, tuple[float, float]]) -> None:
        with torch.no_grad():
            for piece in self.pieces:
                for role, (low, high) in bounds.items():
                    if role in piece.trained:
                        piece.trained[role].clamp_(low, high)

    def _order(self) -> Iterator[int]:
        generator = self.problem.generator("order")
        while True:
            for index in torch.randperm(len(self.train), generator=generator).tolist():
                yield self.train[index]

    def _gradients(self, numbers: Sequence[int]) -> dict[int, Tensor]:
        """Of the mean loss over these batches, by leaf."""
        pool = self.problem.pool
        decided = self._decided(grad=True)
        names = [name for tensors in decided for name in tensors]
        plain = {name: tensor.detach() for tensors in decided for name, tensor in tensors.items()}
        totals: list[Tensor] | None = None
        for found in pool.map(lambda number: self._backward(plain, names, number), numbers):
            if totals is None:
                totals = found
            else:
                for total, part in zip(totals, found, strict=True):
                    total += part
        if totals is None:
            raise CompressError(f"{self.problem.name}: a step without batches")
        of = {name: total.div_(len(numbers)) for name, total in zip(names, totals, strict=True)}

        def back(index: int) -> list[tuple[Tensor, Tensor | None]]:
            leaves = list(self.pieces[index].trained.values())
            pairs = [(tensor, of[name]) for name, tensor in decided[index].items() if tensor.requires_grad]
            if not pairs:
                return []
            outputs, seeds = zip(*pairs, strict=True)
            return list(zip(leaves, torch.autograd.grad(outputs, leaves, seeds, allow_unused=True), strict=True))

        summed: dict[int, Tensor] = {}
        for found in pool.map(back, range(len(self.pieces))):
            for leaf, gradient in found:
                if gradient is not None:
                    summed[id(leaf)] = summed[id(leaf)] + gradient if id(leaf) in summed else gradient
        return summed

    def _backward(self, plain: Mapping[str, Tensor], names: Sequence[str], number: int) -> list[Tensor]:
        with torch.enable_grad():
            leaves = {name: plain[name].detach().requires_grad_() for name in names}
            total = self._terms(leaves, number, self.taken).total
            if not bool(torch.isfinite(total.detach())):
                raise _Diverged
            found = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
            return [torch.zeros_like(plain[name]) if g is None else g for name, g in zip(names, found, strict=True)]

    def _losses(self, plain: Mapping[str, Tensor], number: int, purpose: str) -> dict[str, float]:
        with torch.no_grad():
            terms = self._terms(plain, number, purpose)
            return {"total": float(terms.total), **terms.parts}

    def _terms(self, tensors: Mapping[str, Tensor], number: int, step: object) -> losses.Terms:
        """The loss of one batch, summed over its targets."""
        module = self.idle.get()
        try:
            _place(module, tensors)
            with torch.autocast("cpu", torch.bfloat16, enabled=self.half):
                output = self.problem.run(module, number)
            output = self._rows(output.float())
            generator = self.problem.generator("loss", step, number)
            found = [self.loss(output, self._rows(targets[number]), generator) for targets in self.problem.targets]
        finally:
            _place(module, dict.fromkeys(tensors))
            self.idle.put(module)
        if len(found) == 1:
            return found[0]
        parts = {key: math.fsum(terms.parts[key] for terms in found) for key in found[0].parts}
        return losses.Terms(sum(terms.total for terms in found[1:]) + found[0].total, parts)  # pyright: ignore[reportArgumentType]

    def _rows(self, output: Tensor) -> Tensor:
        """Channels last: a row of a loss is a token, or a pixel, with all its channels."""
        said = {"first": 1, "last": -1, None: self.problem.channels}[self.settings.channels]
        return output.movedim(said, -1) if output.dim() > 2 else output

    def _decided(self, *, grad: bool) -> list[dict[str, Tensor]]:
        """The block's tensors as the pieces give them, piece by piece."""

        def value(piece: Piece) -> dict[str, Tensor]:
            with torch.set_grad_enabled(grad):
                return piece.tensors()

        return list(self.problem.pool.map(value, self.pieces))

    def _values(self) -> dict[str, Tensor]:
        return {name: tensor for tensors in self._decided(grad=False) for name, tensor in tensors.items()}

    def _snapshot(self) -> list[Tensor]:
        return [leaf.detach().clone() for leaf in self.leaves]

    def _restore(self, kept: Sequence[Tensor]) -> None:
        with torch.no_grad():
            for leaf, value in zip(self.leaves, kept, strict=True):
                leaf.copy_(value)


def _leaves(pieces: Sequence[Piece]) -> list[Tensor]:
    found = {id(leaf): leaf for piece in pieces for leaf in piece.trained.values()}
    return list(found.values())


def _divided(count: int, share: float) -> tuple[list[int], list[int]]:
    """Numbers of the batches to train on and of those held out, which lie evenly among them."""
    if count < FEWEST_HELD or share == 0:
        return list(range(count)), list(range(count))
    held = max(1, round(count * share))
    chosen = {round((k + 0.5) * count / held) % count for k in range(held)}
    return [n for n in range(count) if n not in chosen], sorted(chosen)


def _skeleton(block: nn.Module) -> nn.Module:
    """The block again, with tensors shared: one copy for each thread, which takes its weights as plain tensors."""
    shared = {id(tensor): tensor for tensor in (*block.parameters(), *block.buffers())}
    return copy.deepcopy(block, dict(shared))


def _place(module: nn.Module, tensors: Mapping[str, Tensor | None]) -> None:
    """Put these in place of the module's parameters; None frees what was put there."""
    for name, tensor in tensors.items():
        path, _, last = name.rpartition(".")
        owner = module.get_submodule(path)
        owner._parameters.pop(last, None)
        owner.__dict__[last] = tensor

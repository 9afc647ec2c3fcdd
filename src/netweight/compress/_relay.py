"""One forward pass per batch for all stages of a block: every pass halts where it reaches a stage and goes on when it is done.

Going through a block again for each stage costs more than twice the arithmetic. Here each batch runs in a thread of its own,
which stops before the first layer of a stage, hands over the statistics of what that layer is about to read, and waits
until the stage's layers are rounded. Batches take turns in their order, as many at once as there are threads, so that sums
are taken in a fixed order and the result is bit for bit that of going through again. The price is memory: what every batch
holds while it waits.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from netweight.compress._observe import Stage, sums_of, watch
from netweight.compress._plugin import Accumulator, BatchSums, Moments
from netweight.errors import CompressError, NotFiniteError


@dataclass(frozen=True, eq=False)
class _News:
    """What a pass has come to: a stage, its end, or an error."""

    batch: int
    stage: int | None = None
    sums: BatchSums | None = None
    output: Any = None
    error: BaseException | None = None


class _Cancelled(BaseException):
    """The main thread gave up; the pass ends."""


class Relay:
    """Forward passes over all batches, halted stage by stage. Use as a context."""

    def __init__(
        self,
        stages: Sequence[Stage],
        layers: dict[str, nn.Module],
        run: Callable[[int], Tensor],
        batches: int,
        threads: int,
    ) -> None:
        self._leaders = {stage.layers[0]: number for number, stage in enumerate(stages)}
        self._layers = {name: layers[name] for name in self._leaders}
        self._run, self._count, self._threads = run, batches, threads
        self._news: queue.SimpleQueue[_News] = queue.SimpleQueue()
        self._go = [threading.Semaphore(0) for _ in range(batches)]
        self._local = threading.local()
        self._cancelled = False
        self._workers = [threading.Thread(target=self._pass, args=(b,), daemon=True) for b in range(batches)]

    def __enter__(self) -> Relay:
        self._watching = watch(self._layers, self._halt)
        self._watching.__enter__()
        for worker in self._workers:
            worker.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._cancelled = True
        for go in self._go:
            go.release()
        for worker in self._workers:
            worker.join()
        self._watching.__exit__(None, None, None)

    def moments(self, stage: int) -> Moments | None:
        """Let every pass run to this stage, and give the statistics of what it is about to read there.

        Raises:
          CompressError: a pass took another way than the first batch did. NotFiniteError: an input holds NaN or Inf.
        """
        total = Accumulator()

        def take(news: _News) -> None:
            if news.stage != stage or news.sums is None:
                raise CompressError(
                    f"batch {news.batch} runs through the block's layers in another order than the first"
                )
            if not bool(torch.isfinite(news.sums.max_abs).all()):
                name = next(name for name, number in self._leaders.items() if number == stage)
                raise NotFiniteError(f"{name}: its calibration inputs hold NaN or Inf")
            total.add(news.sums)

        self._round(take)
        return total.moments()

    def outputs(self, keep: Callable[[int, Tensor], None]) -> None:
        """Let every pass run to its end; ``keep`` gets each batch's output in order."""

        def take(news: _News) -> None:
            if news.stage is not None:
                raise CompressError(
                    f"batch {news.batch} runs through the block's layers in another order than the first"
                )
            keep(news.batch, news.output)

        self._round(take)

    def _round(self, take: Callable[[_News], None]) -> None:
        """Every pass goes on to where it halts next; news is taken in the order of the batches."""
        begun, running, due = 0, 0, 0
        waiting: dict[int, _News] = {}
        while due < self._count:
            while running < self._threads and begun < self._count:
                self._go[begun].release()
                begun, running = begun + 1, running + 1
            news = self._news.get()
            running -= 1
            if news.error is not None:
                raise news.error
            waiting[news.batch] = news
            while due in waiting:
                take(waiting.pop(due))
                due += 1

    def _pass(self, batch: int) -> None:
        self._local.batch = batch
        try:
            self._wait()
            torch.set_num_threads(1)
            self._news.put(_News(batch, output=self._run(batch)))
        except _Cancelled:
            return
        except BaseException as error:  # raised again in the main thread
            self._news.put(_News(batch, error=error))

    def _halt(self, name: str, module: nn.Module, x: Tensor) -> None:
        with torch.no_grad():
            sums = sums_of(module, x)
        self._news.put(_News(self._local.batch, stage=self._leaders[name], sums=sums))
        self._wait()

    def _wait(self) -> None:
        self._go[self._local.batch].acquire()
        if self._cancelled:
            raise _Cancelled

"""Threads that do not change a bit: torch runs single-threaded, and whole items are handed to threads.

Sums taken inside a multi-threaded matrix product depend on the number of threads. Here every item is computed by one
thread in one way, and results come back in the order of the items.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

A = TypeVar("A")
B = TypeVar("B")


class Pool:
    """Ordered map over ``threads`` threads, never more than ``threads + 1`` results waiting."""

    def __init__(self, executor: ThreadPoolExecutor, threads: int) -> None:
        self._executor, self.threads = executor, threads

    def map(self, function: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
        waiting: deque[Future[B]] = deque()
        try:
            for item in items:
                waiting.append(self._executor.submit(function, item))
                if len(waiting) > self.threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


@contextlib.contextmanager
def pool(threads: int) -> Iterator[Pool]:
    """A pool; while it is open, torch's own operations use one thread each (the setting is put back afterwards)."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    executor = ThreadPoolExecutor(threads, "netweight", initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield Pool(executor, threads)
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
        torch.set_num_threads(before)


def return_memory() -> None:
    """Give freed memory back to the system where the C library keeps it (glibc); elsewhere do nothing."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)

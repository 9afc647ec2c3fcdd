"""A contestant in a process of its own: it waits for its turn, multiplies once unmeasured and once measured, and says how long.

The protocol is lines: one JSON object that tells who it is, then for every line read (the number of the round) the seconds.
With one thread these are the thread's own CPU time, with more the wall clock.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

COLD_BYTES = 400 << 20  # weights together, so that a decode step reads memory and not a cache
HOT_COPIES = 2


@dataclass(frozen=True)
class Task:
    variant: str
    outputs: int
    inputs: int
    rows: int
    threads: int

    def copies(self, nbytes: int) -> int:
        """How many copies of a weight of ``nbytes`` to cycle through."""
        return HOT_COPIES if self.rows > 8 else max(HOT_COPIES, COLD_BYTES // nbytes)


def parse_task() -> Task:
    parser = argparse.ArgumentParser()
    parser.add_argument("variant")
    for name in ("outputs", "inputs", "rows", "threads"):
        parser.add_argument(f"--{name}", type=int, required=True)
    return Task(**vars(parser.parse_args()))


def seconds_of(run: Callable[[int], object], number: int, copies: int, threads: int) -> float:
    """One run on one copy of the weights, after an unmeasured one on another."""
    clock = time.thread_time if threads == 1 else time.perf_counter
    run(2 * number % copies)
    begun = clock()
    run((2 * number + 1) % copies)
    return clock() - begun


def serve(task: Task, name: str, nbytes: int, run: Callable[[int], object]) -> None:
    """Answer until the other side closes. ``run(i)`` multiplies with copy ``i``; ``nbytes`` are those of one copy."""
    copies = task.copies(nbytes)
    print(json.dumps({"name": name, "bytes": nbytes}), flush=True)
    for line in sys.stdin:
        print(seconds_of(run, int(line), copies, task.threads), flush=True)

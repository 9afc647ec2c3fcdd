"""Contestants in processes of their own, and how they are asked.

The protocol is lines: the contestant prints one JSON object that tells who it is, then an answer to every line it reads: the
seconds of one product, or the tokens per second of one piece of a language model's work.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

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
    """One run on one copy of the weights, after an unmeasured one on another: of CPU time with one thread, else by the clock."""
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


def serve_steps(about: dict[str, Any], prefill: Callable[[list[int]], object], write: Callable[[int], object]) -> None:
    """Answer until the other side closes: ``read N`` reads a prompt of N tokens, ``write N`` writes N after a short one."""
    print(json.dumps(about), flush=True)
    for line in sys.stdin:
        kind, count = line.split()
        ids = [(i * 7919) % 30000 + 10 for i in range(int(count))]
        if kind == "write":
            prefill(ids[:8])
        begun = time.perf_counter()
        if kind == "write":
            write(int(count))
        else:
            prefill(ids)
        print(int(count) / (time.perf_counter() - begun), flush=True)


class Asked:
    """The other side of a contestant: its process, ``about`` it, and what it answers."""

    def __init__(self, command: Sequence[str], threads: int) -> None:
        self._name = " ".join(command[1:])
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, env=environment
        )
        self.about = json.loads(self._line())

    def _line(self) -> str:
        assert self._process.stdout is not None
        if not (line := self._process.stdout.readline()):
            raise SystemExit(f"{self._name} ended early, exit {self._process.wait()}")
        return line

    def __call__(self, question: str) -> float:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{question}\n")
        self._process.stdin.flush()
        return float(self._line())

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

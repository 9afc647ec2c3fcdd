"""A language model's whole step: tokens written and read per second, beside llama.cpp where its environment is given.

    python benchmarks/decode.py --artifact DIR [--artifact DIR ...] [--llama PYTHON MODEL.gguf ...] --out FOLDER [--threads 1 2]

Every contestant is a process of its own that waits for its turn; rounds go through all of them, so that a slow minute falls on
all. The numbers are tokens per second of wall clock: medians over rounds with the interval of their order statistics. Beside
each of llama.cpp's files stands how many times as fast each artifact is, the median of the quotients of one round. ``--busy``
lets other processes spin meanwhile: what a machine that is not one's own does to a number.
llama.cpp is driven through llama-cpp-python in an environment of its own (its build from source: see benchmarks/README.md).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from _numbers import cell, keep, spread

from netweight import provenance

PEERS = Path(__file__).parent / "peers"
sys.path.insert(0, str(PEERS))
from _serve import Asked  # noqa: E402

PROMPTS, WRITTEN = (128, 512), 64


class Worker:
    """A contestant and its speeds."""

    def __init__(self, name: str, python: str, script: str, path: str, threads: int) -> None:
        self.name = name
        self._asked = Asked([python, str(PEERS / f"steps_{script}.py"), path, str(threads)], threads)
        self.about = self._asked.about
        self.found: dict[str, list[float]] = {}

    def ask(self, question: str, *, keep: bool) -> None:
        value = self._asked(question)
        if keep:
            self.found.setdefault(question, []).append(value)

    def close(self) -> None:
        self._asked.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--artifact", type=Path, action="append", default=[])
    parser.add_argument("--llama", nargs=2, action="append", default=[], metavar=("PYTHON", "GGUF"))
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--busy", type=int, default=0, help="processes that spin beside every measurement")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    with busy(given.busy):
        run(given)


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Neighbours that want a core each, all the time."""
    neighbours = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for neighbour in neighbours:
            neighbour.kill()


def run(given: argparse.Namespace) -> None:
    record: dict[str, Any] = {
        "machine": provenance.cpu_model(),
        "rounds": given.rounds,
        "busy": given.busy,
        "contestants": [],
    }
    beside = f", {given.busy} busy processes beside them" if given.busy else ""
    lines = [f"# Language model steps\n\n{record['machine']}; tokens per second, {given.rounds} rounds{beside}.\n"]
    quotients: list[dict[str, Any]] = []
    kinds = [("write", WRITTEN), *(("read", count) for count in PROMPTS)]
    lines += [
        "| | threads | " + " | ".join(f"{kind} {count}" for kind, count in kinds) + " | load s |",
        "|---" * (len(kinds) + 3) + "|",
    ]
    for threads in given.threads:
        workers = [
            Worker(f"netweight {path.name}", sys.executable, "netweight", str(path), threads) for path in given.artifact
        ]
        workers += [
            Worker(f"llama.cpp {Path(path).name}", python, "llama", path, threads) for python, path in given.llama
        ]
        for number in range(given.rounds + 1):
            for turn in range(len(workers)):
                for kind, count in kinds:
                    workers[(number + turn) % len(workers)].ask(f"{kind} {count}", keep=number > 0)
        quotients += quotients_of(workers[: len(given.artifact)], workers[len(given.artifact) :], threads)
        for worker in workers:
            worker.close()
            found = {key: spread(values) for key, values in worker.found.items()}
            record["contestants"].append({"name": worker.name, "threads": threads, **worker.about, "found": found})
            cells = [cell(value, 4) for value in found.values()]
            lines.append(f"| {worker.name} | {threads} | " + " | ".join(cells) + f" | {worker.about['load_s']:.2f} |")
    record["times_as_fast"] = quotients
    lines += ["\n| times as fast | threads | " + " | ".join(f"{kind} {count}" for kind, count in kinds) + " |"]
    lines += ["|---" * (len(kinds) + 2) + "|"]
    for found in quotients:
        cells = [cell(found[f"{kind} {count}"]) for kind, count in kinds]
        lines.append(f"| {found['name']} / {found['against']} | {found['threads']} | " + " | ".join(cells) + " |")
    keep(given.out, record, lines)


def quotients_of(ours: Sequence[Worker], theirs: Sequence[Worker], threads: int) -> Iterator[dict[str, Any]]:
    for one in ours:
        for other in theirs:
            found = {key: spread(np.array(one.found[key]) / np.array(other.found[key])) for key in one.found}
            yield {"name": one.name, "against": other.name, "threads": threads, **found}


if __name__ == "__main__":
    main()

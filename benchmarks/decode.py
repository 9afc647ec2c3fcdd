"""A language model's whole step: tokens written and read per second, beside llama.cpp where its environment is given.

    python benchmarks/decode.py --artifact DIR [--artifact DIR ...] [--llama PYTHON MODEL.gguf ...] --out FOLDER [--threads 1 2]

Every contestant is a process of its own that waits for its turn; rounds go through all of them, so that a slow minute falls on
all. The numbers are tokens per second of wall clock: medians over rounds with the interval of their order statistics.
llama.cpp is driven through llama-cpp-python in an environment of its own (its build from source: see benchmarks/README.md).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from netweight import provenance
from netweight.evaluate import median_interval

PROMPTS, WRITTEN = (128, 512), 64

WORKER = """
import json, sys, time
name, path, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
begun = time.perf_counter()
if name == "netweight":
    from netweight import runtime
    from netweight.runtime import kernels
    kernels.set_threads(threads)
    ready = time.perf_counter()
    loaded = runtime.load(path)
    load_s = time.perf_counter() - ready
    decoder = runtime.NativeDecoder(loaded.model, longest=1024)
    session = decoder.session()
    about = {"path": loaded.summary(), "load_s": load_s}
    def prefill(ids):
        session.cut(0)
        state["logits"] = decoder.forward((session,), (ids,))[0]
    def write(count):
        token = decoder.choose(state["logits"])
        for _ in range(count):
            token = decoder.next(session, token)
else:
    import llama_cpp
    model = llama_cpp.Llama(path, n_ctx=1024, n_threads=threads, n_threads_batch=threads, n_batch=512, verbose=False)
    about = {"path": llama_cpp.__version__, "load_s": time.perf_counter() - begun}
    def prefill(ids):
        model.reset()
        model.eval(ids)
    def write(count):
        token = model.sample(temp=0.0)
        for _ in range(count):
            model.eval([token])
            token = model.sample(temp=0.0)
state = {}
print(json.dumps(about), flush=True)
for line in sys.stdin:
    kind, count = line.split()
    ids = [(i * 7919) % 30000 + 10 for i in range(int(count))]
    if kind == "write":
        prefill(ids[:8] or [11, 12, 13])
        begun = time.perf_counter()
        write(int(count))
    else:
        begun = time.perf_counter()
        prefill(ids)
    print(int(count) / (time.perf_counter() - begun), flush=True)
"""


class Worker:
    def __init__(self, name: str, python: str, kind: str, path: str, threads: int) -> None:
        command = [python, "-c", WORKER, kind, path, str(threads)]
        self.name, self.threads = name, threads
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.about = json.loads(self._line())
        self.found: dict[str, list[float]] = {}

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended early")
        return line

    def ask(self, kind: str, count: int, *, keep: bool) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{kind} {count}\n")
        self._process.stdin.flush()
        value = float(self._line())
        if keep:
            self.found.setdefault(f"{kind} {count}", []).append(value)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--artifact", type=Path, action="append", default=[])
    parser.add_argument("--llama", nargs=2, action="append", default=[], metavar=("PYTHON", "GGUF"))
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    record: dict[str, Any] = {"machine": provenance.cpu_model(), "rounds": given.rounds, "contestants": []}
    lines = [f"# Language model steps\n\n{record['machine']}; tokens per second, {given.rounds} rounds.\n"]
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
                    workers[(number + turn) % len(workers)].ask(kind, count, keep=number > 0)
        for worker in workers:
            worker.close()
            found = {key: spread(values) for key, values in worker.found.items()}
            record["contestants"].append({"name": worker.name, "threads": threads, **worker.about, "found": found})
            cells = [f"{v['median']:.4g} [{v['low'] or 0:.4g}, {v['high'] or 0:.4g}]" for v in found.values()]
            lines.append(f"| {worker.name} | {threads} | " + " | ".join(cells) + f" | {worker.about['load_s']:.2f} |")
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "results.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    (given.out / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


def spread(values: list[float]) -> dict[str, Any]:
    interval = median_interval(np.array(values), items="rounds")
    return {"median": statistics.median(values), "low": interval.low, "high": interval.high, "n": len(values)}


if __name__ == "__main__":
    main()

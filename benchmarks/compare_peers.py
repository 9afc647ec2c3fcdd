"""netweight beside its peers, on the same model, tokens, bits and machine, in one run.

Every contestant compresses in a process of its own, in its own environment; runs are interleaved (A, B, C, A, B, C), so
that a busy minute falls on all of them. One judge then measures the decoded weights of all on the same test windows.
See benchmarks/README.md for the installation and a complete command.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

PEERS = Path(__file__).resolve().parent / "peers"
DRIVERS = {
    "netweight": "with_netweight.py",
    "gptqmodel": "with_gptqmodel.py",
    "auto-round": "with_autoround.py",
    "llm-compressor": "with_llmcompressor.py",
}
RESAMPLES = 9999


@dataclass(frozen=True)
class Contestant:
    """One driver with one set of settings."""

    peer: str
    variant: str

    @property
    def name(self) -> str:
        return f"{self.peer}:{self.variant}"

    @staticmethod
    def parse(text: str) -> Contestant:
        peer, _, variant = text.partition(":")
        if peer not in DRIVERS or not variant:
            raise argparse.ArgumentTypeError(f"{text!r}: must be PEER:VARIANT with PEER one of {', '.join(DRIVERS)}")
        return Contestant(peer, variant)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model-dir", type=Path, required=True, help="folder made by peers/export_reference.py")
    parser.add_argument("--calibration-text", type=Path, required=True)
    parser.add_argument("--test-text", type=Path, required=True)
    parser.add_argument("--run", type=Contestant.parse, action="append", required=True, metavar="PEER:VARIANT")
    parser.add_argument("--python", action="append", default=[], metavar="PEER=PATH", help="a peer's own interpreter")
    parser.add_argument("--pair", action="append", default=[], metavar="A,B", help="report perplexity of A minus B")
    parser.add_argument("--bits", type=int, default=3)
    parser.add_argument("--group", type=int, default=64)
    parser.add_argument(
        "--format", choices=("", "nvfp4"), default="", help="nvfp4 in place of integers; --bits 4 --group 16 with it"
    )
    parser.add_argument("--samples", type=int, default=128)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--windows", type=int, default=24, help="test windows")
    parser.add_argument("--window-length", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--at-once", type=int, default=1, help="contestants at work at a time, each with --threads")
    parser.add_argument(
        "--work",
        type=Path,
        required=True,
        help="folder for weights and logs; not kept. Runs that ended well in it before are not run again",
    )
    parser.add_argument("--record", type=Path, required=True, help="folder to create: records/<date>_<what>_<hardware>")
    return parser.parse_args()


def make_tokens(given: argparse.Namespace, text: Path, *, samples: int, length: int, order: str, out: Path) -> Path:
    command = [
        sys.executable,
        PEERS / "make_tokens.py",
        "--model-dir",
        given.model_dir,
        "--text",
        text,
        "--order",
        order,
    ]
    command += ["--samples", samples, "--length", length, "--seed", given.seed, "--out", out]
    subprocess.run([str(part) for part in command], check=True)
    return out


def compress(given: argparse.Namespace, who: Contestant, tokens: Path, repeat: int) -> dict[str, Any]:
    """Run one contestant once; its result, or what it died of. A run that ended well earlier in this folder is taken as it is."""
    interpreters = dict(item.partition("=")[::2] for item in given.python)
    out = given.work / f"{who.peer}_{who.variant}_{repeat}"
    command = [interpreters.get(who.peer, sys.executable), PEERS / DRIVERS[who.peer], "--variant", who.variant]
    command += ["--model-dir", given.model_dir, "--tokens", tokens, "--bits", given.bits, "--group", given.group]
    command += ["--threads", given.threads, "--out", out, *(["--format", given.format] if given.format else [])]
    ended, begun = out / "result.json", given.work / f"{out.name}.json"
    if ended.exists():
        frame = json.loads(begun.read_text(encoding="utf-8"))
        return frame | json.loads(ended.read_text(encoding="utf-8")) | {"out": out.name}
    environment = os.environ | {"OMP_NUM_THREADS": str(given.threads), "MKL_NUM_THREADS": str(given.threads)}
    frame = {"name": who.name, "repeat": repeat, "load_before": os.getloadavg()[0]}
    begun.write_text(json.dumps(frame), encoding="utf-8")
    log = given.work / f"{out.name}.log"
    with open(log, "w", encoding="utf-8") as file:
        done = subprocess.run(
            [str(part) for part in command], stdout=file, stderr=subprocess.STDOUT, env=environment, check=False
        )
    if done.returncode:
        last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
        return frame | {"failed": f"exit {done.returncode}: {' '.join(last)[:300]}"}
    return frame | json.loads(ended.read_text(encoding="utf-8")) | {"out": out.name}


def run_all(given: argparse.Namespace, tokens: Path) -> list[dict[str, Any]]:
    """Every repeat of every contestant, interleaved. Weights equal to those of an earlier repeat are removed."""

    def one(job: tuple[int, Contestant]) -> dict[str, Any]:
        repeat, who = job
        print(f"repeat {repeat + 1}/{given.repeats}: {who.name}", flush=True)
        result = compress(given, who, tokens, repeat)
        seconds = result.get("load_quantize_save_seconds", 0.0)
        print(f"  {who.name}: {result.get('failed') or f'{seconds:.1f} s'}", flush=True)
        return result

    jobs = [(repeat, who) for repeat in range(given.repeats) for who in given.run]
    with ThreadPoolExecutor(given.at_once) as workers:
        results = list(workers.map(one, jobs))
    seen: set[tuple[str, str]] = set()
    for result in results:
        if "out" not in result:
            continue
        if (result["name"], result["weights_sha256"]) in seen:
            (given.work / result["out"] / "weights.safetensors").unlink(missing_ok=True)
        seen.add((result["name"], result["weights_sha256"]))
    return results


def judge(given: argparse.Namespace, results: list[dict[str, Any]]) -> dict[str, Any]:
    """Per-window negative log-likelihoods of the original and of each contestant's first successful run."""
    tokens = given.work / "test_tokens.safetensors"
    make_tokens(given, given.test_text, samples=given.windows, length=given.window_length, order="first", out=tokens)
    command = [sys.executable, PEERS / "judge.py", "--model-dir", given.model_dir, "--tokens", tokens]
    command += ["--threads", given.threads, "--out", given.work / "nll.json"]
    first = {result["name"]: result for result in reversed(results) if "out" in result}
    for name, result in first.items():
        command += ["--weights", f"{name}={given.work / result['out'] / 'weights.safetensors'}"]
    subprocess.run([str(part) for part in command], check=True)
    return json.loads((given.work / "nll.json").read_text(encoding="utf-8"))


def perplexity(nll_N: np.ndarray, axis: int = -1) -> np.ndarray:
    """Of windows with equally many scored tokens."""
    return np.exp(np.mean(nll_N, axis=axis))


def interval(values: tuple[list[float], ...], statistic: Any, seed: int) -> dict[str, Any]:
    """Value with its 95 % BCa bootstrap interval over windows; several lists are resampled with the same indices."""
    arrays = tuple(np.asarray(column) for column in values)
    value = float(statistic(*arrays))
    if len(arrays[0]) < 2 or (all(np.array_equal(arrays[0], other) for other in arrays[1:]) and len(arrays) > 1):
        return {"value": value, "low": None, "high": None}
    found = stats.bootstrap(
        arrays, statistic, paired=True, n_resamples=RESAMPLES, method="BCa", rng=np.random.default_rng(seed)
    ).confidence_interval
    return {"value": value, "low": float(found.low), "high": float(found.high)}


def difference(a: list[float], b: list[float], seed: int) -> dict[str, Any]:
    """Perplexity of the first less that of the second, paired by window."""
    return interval((a, b), lambda x, y, axis=-1: perplexity(x, axis) - perplexity(y, axis), seed)


def summarise(given: argparse.Namespace, results: list[dict[str, Any]], nll: dict[str, Any]) -> dict[str, Any]:
    table = nll["nll_per_window"]
    quality = {name: interval((values,), perplexity, given.seed) for name, values in table.items()}
    pairs = {}
    for item in given.pair:
        a, b = item.split(",")
        if a in table and b in table:
            pairs[item] = difference(table[a], table[b], given.seed)
    return {"perplexity": quality, "perplexity_differences": pairs, "cost": costs(results)}


def costs(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Median and range over the repeats of what each contestant spent."""
    table: dict[str, Any] = {}
    for name in dict.fromkeys(result["name"] for result in results):
        good = [result for result in results if result["name"] == name and "failed" not in result]
        if not good:
            table[name] = {"failed": [result["failed"] for result in results if result["name"] == name]}
            continue
        seconds = sorted(result["load_quantize_save_seconds"] for result in good)
        table[name] = {
            "repeats": len(good),
            "seconds_median": float(np.median(seconds)),
            "seconds_range": [seconds[0], seconds[-1]],
            "cpu_seconds_median": float(np.median([result["cpu_seconds"] for result in good])),
            "peak_rss_bytes": max(result["peak_rss_bytes"] for result in good),
            "true_bits_per_weight": good[0]["true_bits_per_weight"],
            "same_weights_every_time": len({result["weights_sha256"] for result in good}) == 1,
            "all_layers_quantized": not good[0]["checks"]["layers_untouched"]
            and not good[0]["checks"]["layers_with_too_many_levels"],
            "fallbacks": len(good[0]["fallbacks"]),
            "version": good[0]["version"],
        }
    return table


def machine(given: argparse.Namespace) -> dict[str, Any]:
    """What the numbers depend on; no names of folders or hosts."""
    cpu = ""
    if Path("/proc/cpuinfo").exists():
        names = re.findall(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
        cpu = names[0] if names else ""
    return {
        "cpu": cpu or platform.processor(),
        "cores": os.cpu_count(),
        "threads": given.threads,
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "load_average": os.getloadavg(),
        "date": datetime.date.today().isoformat(),
    }


def page(given: argparse.Namespace, summary: dict[str, Any], facts: dict[str, Any]) -> str:
    """The record's README."""
    lines = [
        f"# {given.format or f'int{given.bits}-g{given.group}'}, {given.samples} x {given.length} calibration tokens",
        "",
        f"{facts['cpu']}, {facts['threads']} threads of {facts['cores']}; {facts['date']}; {given.repeats} interleaved repeats, "
        f"{given.at_once} contestants at a time.",
        f"Perplexity on {given.windows} windows of {given.window_length} tokens, {given.test_text.name}; 95 % BCa bootstrap.",
        "",
        "| contestant | version | bits per weight | perplexity | load+quantize+save s (range) | peak MB | fallbacks |",
        "|---|---|---|---|---|---|---|",
        f"| original | | 32 | {_with_interval(summary['perplexity']['original'])} | | | |",
    ]
    for name, cost in summary["cost"].items():
        if "failed" in cost:
            lines.append(f"| {name} | failed: {cost['failed'][0]} | | | | | |")
            continue
        low, high = cost["seconds_range"]
        lines.append(
            f"| {name} | {cost['version']} | {cost['true_bits_per_weight']:.4f} "
            f"| {_with_interval(summary['perplexity'][name])} | {cost['seconds_median']:.1f} ({low:.1f} to {high:.1f}) "
            f"| {cost['peak_rss_bytes'] / 1e6:.0f} | {cost['fallbacks']} |"
        )
    lines += ["", "| paired difference of perplexity | value |", "|---|---|"]
    lines += [
        f"| {pair.replace(',', ' minus ')} | {_with_interval(found)} |"
        for pair, found in summary["perplexity_differences"].items()
    ]
    return "\n".join(lines) + "\n"


def _with_interval(found: dict[str, Any]) -> str:
    if found["low"] is None:
        return f"{found['value']:.3f}"
    return f"{found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"


def command_line() -> str:
    """The command with every path reduced to its last part."""
    return " ".join(re.sub(r"(^|=)\S*/", r"\1", part) for part in ["python", *sys.argv]) + "\n"


def main() -> None:
    given = arguments()
    given.work.mkdir(parents=True, exist_ok=True)
    given.record.mkdir(parents=True)
    calibration = make_tokens(
        given,
        given.calibration_text,
        samples=given.samples,
        length=given.length,
        order="random",
        out=given.work / "calibration_tokens.safetensors",
    )
    facts = machine(given)
    results = run_all(given, calibration)
    nll = judge(given, results)
    summary = summarise(given, results, nll)
    for name, value in (("results", results), ("nll", nll), ("summary", summary), ("environment", facts)):
        (given.record / f"{name}.json").write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    (given.record / "command.txt").write_text(command_line(), encoding="utf-8")
    (given.record / "README.md").write_text(page(given, summary, facts), encoding="utf-8")
    print((given.record / "README.md").read_text(encoding="utf-8"))
    if any("failed" in result for result in results):
        raise SystemExit(1)


if __name__ == "__main__":
    main()

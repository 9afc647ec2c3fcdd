"""Time of one training step of a block with one loss and with another, interleaved, on a real model's own activations.

    python benchmarks/training.py --model-dir reference --tokens tokens.safetensors --out benchmarks/records/DATE_training_HARDWARE

A step is what ``Trainer`` does: weights from what is trained, the batches through the block and back, the optimizer. Steps of the
two losses alternate, so that a busy moment falls on both; the ratio is that of neighbours, its median with an interval over pairs.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from netweight import formats, models, provenance, registry
from netweight.compress import _start
from netweight.compress._parallel import pool
from netweight.compress._problem import Problem
from netweight.compress._schedule import Schedule, optimizer_of
from netweight.compress._train import Trainer
from netweight.settings import parse

LOSSES = {"mse": "mse", "mse+sw": {"use": "mse+sw", "sw": 0.1, "projections": 128}}


def problem(model_dir: Path, tokens: Path, index: int, format_name: str, workers: Any) -> Problem:
    """One block of the original model with its own inputs and outputs."""
    model = models.load(model_dir)
    rows = load_file(tokens)["tokens"][:8]
    inputs = models.capture_block_inputs(model, [{"input_ids": row[None]} for row in rows])
    hidden = [found.hidden for found in inputs]
    names = models.blocks(model)
    for number, name in enumerate(names[: index + 1]):
        models.materialize(model, name)
        block = model.module.get_submodule(name)
        before, hidden = (
            hidden,
            [models.run_block(block, *i.call(number, h))[0] for i, h in zip(inputs, hidden, strict=True)],
        )
    layers = {n: n for n, m in block.named_modules() if models.kind_of(m) == "linear"}
    return Problem(
        name=names[index],
        module=block.eval(),
        layers=layers,
        formats=dict.fromkeys(layers, formats.get(format_name)),
        run=lambda module, n: models.call_block(module, *inputs[n].call(index, before[n])),
        targets=[hidden],
        moments=dict,
        feeds=(),
        pool=workers,
        seed=0,
    )


class Stepper:
    """A trainer that can be asked for one step at a time."""

    def __init__(self, posed: Problem, method: str, loss: Any, batch: int, precision: str) -> None:
        plugin = registry.find("netweight.compress", method)
        values = {"loss": loss, "batch": batch, "precision": precision, "held_out": 0.0}
        settings = parse(plugin.Settings, values, method)
        pieces = [_piece(plugin, posed, name, settings) for name in posed.layers]
        self.trainer = Trainer(posed, pieces, settings)
        rates = {role: 1e-4 for piece in pieces for role in piece.trained}
        self.optimizer = optimizer_of(pieces, Schedule(1, rates), 1.0)
        self.number, self.batch = 0, batch

    def step(self) -> float:
        begun = time.perf_counter()
        numbers = [(self.number + k) % len(self.trainer.train) for k in range(self.batch)]
        gradients = self.trainer._gradients(numbers)
        self.trainer.taken += 1
        for leaf in self.optimizer.leaves:
            leaf.grad = gradients.get(id(leaf))
        self.optimizer.step(1.0)
        self.number += 1
        return time.perf_counter() - begun


def _piece(plugin: Any, posed: Problem, name: str, settings: Any) -> Any:
    weight = _start.matrix(posed, name)
    if plugin.__name__.endswith("block_qat"):
        return plugin._Layer(posed, name, weight, _start.params(weight, posed.formats[name], "minmax", None), settings)
    return plugin._Layer(posed, name, weight, 1.0, None, None)  # omniquant


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model-dir", type=Path, required=True)
    parser.add_argument("--tokens", type=Path, required=True)
    parser.add_argument("--block", type=int, default=15)
    parser.add_argument("--format", default="int2-g64")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--out", type=Path, required=True, help="folder to create: records/<date>_<what>_<hardware>")
    given = parser.parse_args()
    rows = []
    with torch.no_grad(), pool(given.threads) as workers:
        posed = problem(given.model_dir, given.tokens, given.block, given.format, workers)
        for method in ("omniquant", "block_qat"):
            for precision in ("fp32", "bf16"):
                steppers = {name: Stepper(posed, method, loss, 2, precision) for name, loss in LOSSES.items()}
                times: dict[str, list[float]] = {name: [] for name in LOSSES}
                for number in range(given.pairs + 3):
                    for name in sorted(LOSSES, reverse=bool(number % 2)):
                        seconds = steppers[name].step()
                        if number >= 3:
                            times[name].append(seconds)
                rows.append(_row(method, precision, times))
                print(json.dumps(rows[-1]), flush=True)
    given.out.mkdir(parents=True)
    table = {
        "block": given.block, "format": given.format, "threads": given.threads, "pairs": given.pairs,
        "tokens_per_step": 2 * int(load_file(given.tokens)["tokens"].shape[1]), "projections": 128,
        "tokens_sha256": provenance.sha256_of_file(given.tokens), "environment": provenance.environment(threads=given.threads),
        "python": platform.python_version(), "commit": provenance.commit(), "rows": rows,
    }  # fmt: skip
    (given.out / "results.json").write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


def _row(method: str, precision: str, times: dict[str, list[float]]) -> dict[str, Any]:
    ratio = np.array(times["mse+sw"]) / np.array(times["mse"])
    rng = np.random.default_rng(0)
    medians = np.median(rng.choice(ratio, (9999, len(ratio))), axis=1)
    low, high = np.quantile(medians, (0.025, 0.975))
    return {
        "method": method,
        "precision": precision,
        "mse_median_s": float(np.median(times["mse"])),
        "hybrid_median_s": float(np.median(times["mse+sw"])),
        "ratio": float(np.median(ratio)),
        "low": float(low),
        "high": float(high),
        "n": len(ratio),
    }


if __name__ == "__main__":
    main()

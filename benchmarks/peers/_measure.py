"""What every driver does the same way: read the tokens, watch the clock and the memory, write weights and result.

Runs inside each peer's own environment, so it needs only torch and safetensors. A driver is measured by one process that
does nothing else: its peak memory is read from the kernel right after the compression, before the weights are
decoded for the judge.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import os
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class Job:
    """One compression to run: what every driver is given on its command line."""

    model_dir: Path  # Hugging Face folder, float32
    tokens: Path  # safetensors with one int64 tensor "tokens" of shape (N, L)
    bits: int
    group: int
    out: Path
    threads: int
    variant: str
    format: str = (
        ""  # "" for integers of ``bits`` bits in groups of ``group``; or "nvfp4", whose bits are 4 and group 16
    )

    @property
    def number_format(self) -> str:
        """As netweight calls it."""
        return self.format or f"int{self.bits}-g{self.group}"

    def integers_only(self) -> None:
        """For a driver that knows no other format."""
        if self.format:
            raise SystemExit(f"this driver has no {self.format}")

    def windows(self) -> torch.Tensor:
        """(N, L) int64 calibration windows."""
        return load_file(self.tokens)["tokens"]


@dataclass
class Clock:
    """Seconds of wall clock and of this process's CPU time, per phase, and the peak memory after each."""

    phases: dict[str, dict[str, float]] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        wall, cpu = time.perf_counter(), process_cpu_s()
        yield
        self.phases[name] = {
            "seconds": time.perf_counter() - wall,
            "cpu_seconds": process_cpu_s() - cpu,
            "peak_rss_bytes": peak_rss_bytes(),
        }


def parse_job(variants: tuple[str, ...]) -> Job:
    """The driver's command line; ``variants`` are the settings it offers, the first is the default."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model-dir", type=Path, required=True)
    parser.add_argument("--tokens", type=Path, required=True)
    parser.add_argument("--bits", type=int, default=3)
    parser.add_argument("--group", type=int, default=64)
    parser.add_argument("--format", choices=("", "nvfp4"), default="")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--variant", choices=variants, default=variants[0])
    parser.add_argument("--out", type=Path, required=True, help="folder to create")
    job = Job(**vars(parser.parse_args()))
    torch.set_num_threads(job.threads)
    job.out.mkdir(parents=True)
    return job


def process_cpu_s() -> float:
    """CPU seconds of this process and its finished children (compilers that a peer starts count too)."""
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    )


def peak_rss_bytes() -> int:
    """Largest resident set of this process since its start.

    From VmHWM where there is one: ``ru_maxrss`` of a child also counts what its parent held when it was started.
    """
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def sha256_of_file(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def layer_names(reference: Path) -> list[str]:
    """Names of the linear layers inside the decoder blocks, as the reference folder has them."""
    with safe_open(reference / "model.safetensors", "pt") as file:
        names = [key.removesuffix(".weight") for key in file.keys()]  # noqa: SIM118 (not a dict)
    return sorted(name for name in names if name.rsplit(".", 1)[-1] in PROJECTIONS)


def stored_bytes(folder: Path, layers: list[str]) -> dict[str, int]:
    """Bytes that a saved model spends on the given layers, by the last part of the tensor's name (``qweight``, ...).

    Read from the headers of the peer's own safetensors files, so it is what a user's disk holds, padding included. Formats only netweight
    reads are stored as parts of the weight (``weight.codes``, ...).
    """
    wanted, found = set(layers), {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            for key in file.keys():  # noqa: SIM118
                layer, _, part = key.rpartition(".")
                if layer.removesuffix(".weight") in wanted:
                    tensor = file.get_tensor(key)
                    found[part] = found.get(part, 0) + tensor.numel() * tensor.element_size()
    if not found:
        raise ValueError(f"{folder} holds nothing of the {len(layers)} layers")
    return found


def true_bits(parts: dict[str, int], weights: int, separate: tuple[str, ...] = ("g_idx", "weight_shape")) -> float:
    """Stored bits per weight over all parts except ``separate``."""
    return 8 * sum(size for part, size in parts.items() if part not in separate) / weights


def largest_level_count(weight_OI: torch.Tensor, group: int) -> int:
    """Most distinct values found in any group of ``group`` neighbouring inputs of one row.

    Values closer than 1e-6 of the group's largest magnitude count as one: decoding in another order rounds differently.
    """
    groups_GK = weight_OI.float().reshape(-1, group).sort(dim=1).values
    step_GK = groups_GK.diff(dim=1)
    tolerance_G1 = 1e-6 * groups_GK.abs().amax(dim=1, keepdim=True)
    return int((step_GK > tolerance_G1).sum(dim=1).max()) + 1


def inspect(weights: dict[str, torch.Tensor], reference: Path, *, bits: int, group: int) -> dict[str, Any]:
    """Was every layer quantized, and is everything else untouched? Relative weight errors beside it."""
    before = load_file(reference / "model.safetensors")
    layers = layer_names(reference)
    levels, errors, untouched = {}, {}, []
    for name in layers:
        new, old = weights[f"{name}.weight"].float(), before[f"{name}.weight"].float()
        levels[name] = largest_level_count(new, group)
        errors[name] = float((new - old).norm() / old.norm())
        if torch.equal(new, old):
            untouched.append(name)
    inside = {f"{name}.weight" for name in layers}
    changed = [key for key in before if key not in inside and not torch.equal(before[key], weights[key].float())]
    return {
        "layers": len(layers),
        "layers_untouched": untouched,
        "layers_with_too_many_levels": {name: n for name, n in levels.items() if n > 2**bits},
        "largest_level_count": max(levels.values()),
        "other_tensors_changed": changed,
        "mean_relative_weight_error": sum(errors.values()) / len(errors),
        "worst_relative_weight_error": max(errors.items(), key=lambda item: item[1]),
    }


def finish(
    job: Job,
    *,
    peer: str,
    package: str,
    settings: dict[str, Any],
    clock: Clock,
    weights: dict[str, torch.Tensor],
    packed: Path,
    notes: list[str],
    fallbacks: list[str],
) -> None:
    """Write ``out/weights.safetensors`` (float32, every tensor of the reference) and ``out/result.json``.

    Args:
      weights: decoded weights by Hugging Face name; tensors a peer leaves out are taken from the reference.
      packed: folder of the model as the peer itself saves it.
    """
    reference = load_file(job.model_dir / "model.safetensors")
    complete = {name: weights.get(name, tensor).float().contiguous() for name, tensor in reference.items()}
    layers = layer_names(job.model_dir)
    count = sum(reference[f"{name}.weight"].numel() for name in layers)
    parts = stored_bytes(packed, layers)
    save_file(complete, job.out / "weights.safetensors")
    compress = [clock.phases[name] for name in ("load", "quantize", "save") if name in clock.phases]
    result = {
        "peer": peer,
        "variant": job.variant,
        "version": version_of(package),
        "torch": torch.__version__,
        "settings": settings,
        "bits": job.bits,
        "group": job.group,
        "threads": job.threads,
        "calibration": {"shape": list(job.windows().shape), "sha256": sha256_of_file(job.tokens)},
        "phases": clock.phases,
        "seconds": clock.phases["quantize"]["seconds"],
        "cpu_seconds": clock.phases["quantize"]["cpu_seconds"],
        "load_quantize_save_seconds": sum(phase["seconds"] for phase in compress),
        "peak_rss_bytes": max(phase["peak_rss_bytes"] for phase in compress),
        "weights": count,
        "stored_bytes": parts,
        "true_bits_per_weight": true_bits(parts, count),
        "true_bits_per_weight_with_g_idx": true_bits(parts, count, separate=()),
        "checks": inspect(complete, job.model_dir, bits=job.bits, group=job.group),
        "fallbacks": fallbacks,
        "notes": notes,
        "weights_sha256": sha256_of_file(job.out / "weights.safetensors"),
    }
    (job.out / "result.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    json.dump({key: result[key] for key in ("peer", "variant", "seconds", "true_bits_per_weight")}, sys.stdout)
    print()


def version_of(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "source tree"


def quiet_hub() -> None:
    """No network: a peer that asks a hub for anything fails at once instead of waiting."""
    os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="0")

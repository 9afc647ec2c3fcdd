"""Where a number came from: hashes, seeds, versions, machine, commit. No torch is imported here."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

PACKAGES = ("netweight", "torch", "transformers", "safetensors", "compressed-tensors", "gguf", "numpy", "scipy")


def sha256_of_bytes(data: bytes | memoryview) -> str:
    return hashlib.sha256(data).hexdigest()


def sha256_of_file(path: str | Path) -> str:
    """Streaming hash; memory stays at a few MB whatever the size."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_json(value: Any) -> str:
    """Hash of plain data, independent of key order."""
    return sha256_of_bytes(json.dumps(value, sort_keys=True, allow_nan=False).encode())


def derived_seed(seed: int, *what: object) -> int:
    """A seed for one purpose, below 2^56: what one draws does not shift what another does.

    ``what`` says the purpose, in values whose ``repr`` says all of them: text, numbers, tuples.
    """
    return int.from_bytes(hashlib.sha256(repr((seed, *what)).encode()).digest()[:7], "big")


def versions() -> dict[str, str]:
    """Installed versions of the packages that can change a number; absent ones are left out."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@cache
def code_sha256() -> str:
    """Hash of the package's own source files."""
    root = Path(__file__).resolve().parent
    files = sorted(path for kind in ("*.py", "*.cpp", "*.hpp", "*.inl", "*.h") for path in root.rglob(kind))
    return sha256_of_json({str(path.relative_to(root)): sha256_of_file(path) for path in files})


@cache
def cpu_model() -> str:
    """The processor's name as the system gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


@cache
def commit() -> str:
    """Commit of the source tree netweight runs from, ``+changes`` when files differ from it; "" outside a checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return ""
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, timeout=10)
        dirty = subprocess.run(["git", "status", "--porcelain"], cwd=root, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    if head.returncode:
        return ""
    return head.stdout.strip() + ("+changes" if dirty.stdout.strip() else "")


def environment(*, device: str = "cpu", threads: int | None = None) -> dict[str, Any]:
    """What a claim records of the machine and software it was measured on."""
    return {
        "device": device,
        "cpu": cpu_model(),
        "cores": os.cpu_count() or 1,
        "threads": threads,
        "system": f"{platform.system()} {platform.machine()}",
        "versions": versions(),
        "commit": commit(),
    }

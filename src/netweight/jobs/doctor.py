"""doctor: what this machine and installation can do, what is wrong with them, and the way out of each problem."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json as json_text
import os
import platform
import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from netweight import provenance

GB = 1e9
PYTHON = (3, 11)
NEEDED = ("torch", "transformers", "safetensors", "numpy", "scipy", "gguf", "compressed-tensors", "accelerate")
# What the fast integer paths of CPU kernels ask for, weakest first.
CPU_FLAGS = ("avx2", "avx_vnni", "avx512_vnni", "amx_int8", "amx_bf16")
MEMORY_BYTES = 8 * GB  # what the demo is promised to need at most
DISK_BYTES = 2 * GB  # weights of the demo's model and two artifacts, with room to spare
REINSTALL = "pip install -c constraints.txt -e ."


@dataclass(frozen=True)
class Finding:
    """One line of the check-up. ``way_out`` is empty only where ``status`` is "ok"."""

    topic: str
    status: Literal["ok", "warning", "problem"]
    found: str
    way_out: str = ""


@dataclass(frozen=True)
class Checkup:
    """All findings, in the order they are shown."""

    findings: tuple[Finding, ...]

    def problems(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.status == "problem")

    def to_json(self) -> str:
        return json_text.dumps([asdict(finding) for finding in self.findings], indent=2)


def doctor(*, json: bool = False) -> Checkup | str:
    """Every finding about this machine; its JSON text with ``json``."""
    root = Path("/")
    findings = (
        python(sys.version_info[:3]),
        *(package(name) for name in NEEDED),
        torch_works(),
        torchvision_absent(importlib.util.find_spec("torchvision") is not None),
        cores(),
        cpu(root),
        compiled_kernels(),
        memory(root),
        disk(Path.cwd()),
        energy(root),
        data_folder(os.environ),
    )
    checkup = Checkup(findings)
    return checkup.to_json() if json else checkup


def python(version: tuple[int, ...]) -> Finding:
    found = ".".join(map(str, version))
    if version[:2] < PYTHON:
        return Finding("python", "problem", found, "use Python 3.11 or newer: python3.11 -m venv .venv")
    return Finding("python", "ok", found)


def package(name: str) -> Finding:
    """Is a package that netweight needs installed, in which version."""
    try:
        return Finding(name, "ok", importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, "problem", "not installed", REINSTALL)


def torch_works() -> Finding:
    """Imports torch: threads it would use, and whether it sees a GPU."""
    try:
        torch = importlib.import_module("torch")
    except (ImportError, OSError) as error:  # OSError: a shared library that does not load
        return Finding("torch import", "problem", f"fails: {error}", REINSTALL)
    count = torch.get_num_threads()
    threads = f"{count} thread{'s' * (count != 1)}"
    if torch.cuda.is_available():
        return Finding("torch devices", "ok", f"cpu ({threads}), cuda ({torch.cuda.get_device_name(0)})")
    built = f"built for CUDA {torch.version.cuda}, no GPU found" if torch.version.cuda else "a CPU build"
    return Finding("torch devices", "ok", f"cpu ({threads}); {built}")


def torchvision_absent(present: bool) -> Finding:
    """transformers imports torchvision where it finds it, and builds made for another torch break that import."""
    if present:
        return Finding(
            "torchvision",
            "problem",
            "installed; it can break transformers",
            "pip uninstall torchvision (nothing here needs it)",
        )
    return Finding("torchvision", "ok", "absent, as it should be")


def cores() -> Finding:
    usable, present = len(os.sched_getaffinity(0)), os.cpu_count() or 1
    found = f"{usable} cores" if usable == present else f"{usable} of {present} cores usable by this process"
    return Finding("cores", "ok", found)


def cpu(root: Path) -> Finding:
    """Instruction sets that matter for low-bit arithmetic, from ``/proc/cpuinfo`` below ``root``."""
    machine = platform.machine()
    if machine not in ("x86_64", "AMD64"):
        return Finding("cpu", "ok", f"{provenance.cpu_model()} ({machine})")
    lines = _read(root / "proc/cpuinfo").splitlines()
    flags = next((line.split(":", 1)[1].split() for line in lines if line.startswith("flags")), [])
    found = [name for name in CPU_FLAGS if name in flags]
    if "avx2" not in found:
        return Finding(
            "cpu", "warning", "no AVX2", "everything works, slowly; use a processor made after 2013 for timings"
        )
    return Finding("cpu", "ok", f"{provenance.cpu_model()}: {' '.join(found)}")


def compiled_kernels() -> Finding:
    """Which kernels would run; imports torch, so a torch that does not load is told of there."""
    try:
        kernels = importlib.import_module("netweight.runtime.kernels")
    except (ImportError, OSError) as error:
        return Finding("kernels", "problem", f"cannot be imported: {error}", REINSTALL)
    if (why := kernels.missing()) is not None:
        found, _, way_out = why.partition("; ")
        return Finding("kernels", "warning", f"{found}: packed weights are decoded, slowly", way_out)
    return Finding("kernels", "ok", f"{kernels.isa()} in use; this CPU can run {', '.join(kernels.levels())}")


def memory(root: Path) -> Finding:
    """Memory a process may still take: what the kernel says is available, or less where a container sets a limit."""
    rows = [line.split() for line in _read(root / "proc/meminfo").splitlines()]
    available = {row[0].rstrip(":"): int(row[1]) * 1024 for row in rows if len(row) > 1}.get("MemAvailable")
    if available is None:
        return Finding("memory", "warning", "unknown", "netweight cannot warn before memory runs out on this system")
    limit = _read(root / "sys/fs/cgroup/memory.max").strip()
    used = _read(root / "sys/fs/cgroup/memory.current").strip()
    if limit.isdigit() and used.isdigit():
        available = min(available, int(limit) - int(used))
    found = f"{available / GB:.1f} GB available"
    if available < MEMORY_BYTES:
        return Finding(
            "memory", "warning", found, f"large models may not fit; the demo may take {MEMORY_BYTES / GB:.0f} GB"
        )
    return Finding("memory", "ok", found)


def disk(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free
    found = f"{free / GB:.1f} GB free in {folder}"
    if free < DISK_BYTES:
        return Finding("disk", "warning", found, f"free {DISK_BYTES / GB:.0f} GB, or write elsewhere with --out")
    return Finding("disk", "ok", found)


def energy(root: Path) -> Finding:
    """Can the processor's energy counters (RAPL) be read below ``root``."""
    counters = sorted(root.glob("sys/class/powercap/intel-rapl:*/energy_uj"))
    if not counters:
        return Finding(
            "energy", "warning", "no counters on this machine", "energy will be reported as estimated or unavailable"
        )
    if not any(_read(counter).strip() for counter in counters):
        way_out = f"sudo chmod a+r {counters[0].parent.parent}/intel-rapl:*/energy_uj"
        return Finding("energy", "warning", "counters exist but cannot be read", way_out)
    return Finding("energy", "ok", f"{len(counters)} counters readable")


def data_folder(environment: Mapping[str, str]) -> Finding:
    """Where further evaluation data lies, as ``data.folder`` looks for it (imported here it would need a torch that works)."""
    named = environment.get("NETWEIGHT_DATA")
    folder = Path(named or "../shared/data")
    if named and not folder.is_dir():
        return Finding(
            "data", "problem", f"NETWEIGHT_DATA={named} is not a folder", "correct it, or unset NETWEIGHT_DATA"
        )
    if not folder.is_dir():
        way_out = "set NETWEIGHT_DATA to a folder of data sets; without it, text that comes with Python is used"
        return Finding("data", "warning", "NETWEIGHT_DATA is not set", way_out)
    return Finding("data", "ok", f"{sum(entry.is_dir() for entry in folder.iterdir())} data sets in {folder}")


def _read(path: Path) -> str:
    """The text of a file of /proc or /sys; "" where there is none or it may not be read."""
    try:
        return path.read_text()
    except OSError:
        return ""

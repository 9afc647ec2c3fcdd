"""The processor's own energy counters, as Linux shows them under /sys/class/powercap.

Package domains only (``intel-rapl:0``, ``intel-rapl:1``, ...; AMD processors appear under the same names): they include the
cores. Counters are in microjoules and wrap at ``max_energy_range_uj``.
Source: Linux kernel documentation, "Power Capping Framework".
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = "/sys/class/powercap"


@dataclass(frozen=True)
class Counter:
    """One processor package: the file to read and the value at which it wraps, in microjoules."""

    path: Path
    range_uj: int

    def read_uj(self) -> int:
        return int(self.path.read_text())


def counters(root: str | Path = ROOT) -> tuple[tuple[Counter, ...], str]:
    """Readable package counters, or none and the reason."""
    found = []
    for folder in sorted(Path(root).glob("intel-rapl:*")):
        if folder.name.count(":") != 1:  # intel-rapl:0:1 is a part of intel-rapl:0
            continue
        try:
            counter = Counter(folder / "energy_uj", int((folder / "max_energy_range_uj").read_text()))
            counter.read_uj()
        except (OSError, ValueError) as error:
            return (), f"{folder / 'energy_uj'} cannot be read: {type(error).__name__}"
        found.append(counter)
    return tuple(found), "" if found else f"no RAPL package counter under {root}"


def joules_between(counters: tuple[Counter, ...], before_uj: list[int], after_uj: list[int]) -> float:
    """Joules between two readings less than one wrap apart."""
    spent = (
        after - before if after >= before else after - before + counter.range_uj
        for counter, before, after in zip(counters, before_uj, after_uj, strict=True)
    )
    return sum(spent) / 1e6

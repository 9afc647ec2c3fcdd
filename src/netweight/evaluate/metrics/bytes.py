"""Bytes on disk and in memory, as the subject states them. Nothing is random: no interval."""

from __future__ import annotations

from netweight import settings as base
from netweight.evaluate._bench import Bench
from netweight.evaluate._samples import Exact, Sample, Unavailable
from netweight.evaluate._task import Quantity

SUMMARY = "bytes on disk and in memory"
DATA = ("none",)
QUANTITIES = (Quantity("bytes_on_disk", "B", "lower"), Quantity("bytes_in_memory", "B", "lower"))


class Settings(base.Settings):
    """Nothing to choose."""


def measure(bench: Bench, data: None, settings: Settings) -> dict[str, dict[str, Sample]]:
    """Both counts of every subject; a count nobody made is unavailable, never 0."""
    disk, memory = (quantity.name for quantity in QUANTITIES)
    return {
        subject.name: {disk: _count(subject.bytes_on_disk, disk), memory: _count(subject.bytes_in_memory, memory)}
        for subject in bench.subjects
    }


def _count(amount: int | None, name: str) -> Sample:
    return Unavailable(f"the subject does not state {name}") if amount is None else Exact(amount)

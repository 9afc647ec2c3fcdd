"""What a fresh interpreter costs: processor seconds, which a busy machine does not change much, unlike the clock's."""

from __future__ import annotations

import resource
import subprocess
import sys


def output(*arguments: str) -> str:
    """Standard output of ``python ARGUMENTS``."""
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True).stdout


def processor_s(*arguments: str, repetitions: int) -> list[float]:
    """User and system seconds of each of ``repetitions`` runs, after one that fills the caches; sorted."""
    output(*arguments)
    times = []
    for _ in range(repetitions):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        output(*arguments)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return sorted(times)

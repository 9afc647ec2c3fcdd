"""Energy of one fixed piece of work, and always where the figure comes from.

measured: the processor packages' RAPL counters around ``repetitions`` runs of at least ``seconds`` each, per call, median.
Everything the packages do is in it: idle power, and other processes.
estimated: only where no counter can be read and ``estimate_watts`` is given: median seconds times that power. The note says so.
unavailable: everything else. There is no silent zero.
"""

from __future__ import annotations

import statistics

import numpy as np
from pydantic import Field

from netweight import settings as base
from netweight.evaluate import _rapl
from netweight.evaluate._bench import Bench
from netweight.evaluate._items import Data
from netweight.evaluate._samples import Estimated, Sample, Sampled, Unavailable, median
from netweight.evaluate._subject import Subject
from netweight.evaluate._task import Quantity
from netweight.evaluate._workload import Work, workload

SUMMARY = "energy of a fixed piece of work: measured, estimated or unavailable, and labelled"
DATA = ("text", "pairs", "labelled", "masks")
QUANTITIES = (Quantity("energy", "J", "lower"),)


class Settings(base.Settings):
    batch: int = Field(1, gt=0, description="windows, texts, inputs or images per call")
    length: int = Field(128, gt=0, description="tokens per window; text only")
    seconds: float = Field(1.0, gt=0, description="shortest repetition; RAPL counters tick about every millisecond")
    repetitions: int = Field(10, gt=0, description="repetitions per subject")
    estimate_watts: float | None = Field(None, gt=0, description="power to assume where nothing can be measured")


def measure(bench: Bench, data: Data, settings: Settings, *, root: str = _rapl.ROOT) -> dict[str, dict[str, Sample]]:
    """Joules per call of every subject."""
    counters, reason = _rapl.counters(root)
    name = QUANTITIES[0].name
    if not counters and settings.estimate_watts is None:
        return {subject.name: {name: Unavailable(reason)} for subject in bench.subjects}
    work = workload(data, batch=settings.batch, length=settings.length)
    for subject in bench.subjects:
        work(subject)  # warm up
    found: dict[str, list[tuple[float, float]]] = {subject.name: [] for subject in bench.subjects}
    for number in range(settings.repetitions):
        first = number % len(bench.subjects)
        for subject in bench.subjects[first:] + bench.subjects[:first]:
            found[subject.name].append(_repetition(bench, subject, work, counters, settings.seconds))
    return {subject: {name: _sample(pairs, bool(counters), reason, settings)} for subject, pairs in found.items()}


def _repetition(
    bench: Bench, subject: Subject, work: Work, counters: tuple[_rapl.Counter, ...], seconds: float
) -> tuple[float, float]:
    """Joules and seconds per call over at least ``seconds``."""
    calls, start = 0, bench.clock()
    before_uj = [counter.read_uj() for counter in counters]
    while (spent := bench.clock() - start) < seconds or calls == 0:
        work(subject)
        calls += 1
    after_uj = [counter.read_uj() for counter in counters]
    return _rapl.joules_between(counters, before_uj, after_uj) / calls, spent / calls


def _sample(pairs: list[tuple[float, float]], measured: bool, reason: str, settings: Settings) -> Sample:
    if measured:
        return Sampled(np.array(pairs)[:, :1], median, "repetitions", shape="median")
    watts = settings.estimate_watts or 0.0
    typical = statistics.median(seconds for _, seconds in pairs)
    basis = f"not measured ({reason}): {typical:.4g} s median wall-clock time x {watts:g} W assumed"
    return Estimated(typical * watts, basis)

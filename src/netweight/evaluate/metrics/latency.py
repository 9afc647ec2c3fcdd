"""Wall-clock time of one fixed piece of work: median over repetitions, after a warm-up.

Subjects take turns, and who begins moves on by one each round, so that a slow minute of the machine hits all of them.
The median's interval comes from order statistics, which assume independent repetitions: it says what this machine did, not
what another would do.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from netweight import settings as base
from netweight.evaluate._bench import Bench
from netweight.evaluate._items import Data
from netweight.evaluate._samples import Sample, Sampled, median
from netweight.evaluate._task import Quantity
from netweight.evaluate._workload import Work, workload

SUMMARY = "median wall-clock time of a fixed piece of work"
DATA = ("text", "pairs", "labelled", "masks")
QUANTITIES = (Quantity("latency", "s", "lower"),)


class Settings(base.Settings):
    batch: int = Field(1, gt=0, description="windows, texts, inputs or images per call")
    length: int = Field(128, gt=0, description="tokens per window; text only")
    warmup: int = Field(3, ge=0, description="calls per subject that are not counted")
    repetitions: int = Field(20, gt=0, description="calls per subject that are")


def measure(bench: Bench, data: Data, settings: Settings) -> dict[str, dict[str, Sample]]:
    """Seconds per call of every subject; one repetition is one observation, paired by round."""
    seconds = rounds(bench, workload(data, batch=settings.batch, length=settings.length), settings)
    name = QUANTITIES[0].name
    return {
        subject: {name: Sampled(np.array(values)[:, None], median, "repetitions", shape="median")}
        for subject, values in seconds.items()
    }


def rounds(bench: Bench, work: Work, settings: Settings) -> dict[str, list[float]]:
    """Seconds of every repetition, subjects taking turns."""
    for subject in bench.subjects:
        for _ in range(settings.warmup):
            work(subject)
    seconds: dict[str, list[float]] = {subject.name: [] for subject in bench.subjects}
    for number in range(settings.repetitions):
        first = number % len(bench.subjects)
        for subject in bench.subjects[first:] + bench.subjects[:first]:
            start = bench.clock()
            work(subject)
            seconds[subject.name].append(bench.clock() - start)
    return seconds

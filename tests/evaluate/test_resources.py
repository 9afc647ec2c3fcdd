"""Bytes, time and energy: exact, by order statistics, and never a silent zero."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch

from evaluate.fakes import random_bigram, text
from netweight.errors import DataError
from netweight.evaluate import Bench, Labelled, Subject, _rapl, run, task
from netweight.evaluate._samples import Estimated, Sampled, Unavailable
from netweight.evaluate.metrics import energy, latency
from netweight.settings import parse


class Clock:
    """Time passes only when a subject works."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def worker(name: str, clock: Clock, seconds, calls: list[str] | None = None) -> Subject:
    """A subject whose calls take the given times in turn."""
    durations = itertools.cycle(seconds)

    def logits(ids, mask):
        clock.now += next(durations)
        if calls is not None:
            calls.append(name)
        return torch.zeros(*ids.shape, 2)

    return Subject(name, f"sha-{name}", logits=logits)


def test_bytes_are_exact_and_have_no_interval():
    whole = Subject("whole", "a", bytes_on_disk=400, bytes_in_memory=500)
    small = Subject("small", "b", bytes_on_disk=100)
    claims = {(c.subject, c.metric): c for c in run([whole, small], reference="whole", tasks=[task("bytes")])}
    disk = claims["small", "bytes_on_disk"]
    assert (disk.value, disk.unit, disk.n, disk.low, disk.high) == (100, "B", 1, None, None)
    assert disk.interval == "none: nothing is random"
    assert disk.comparison is not None
    assert (disk.comparison.difference, disk.comparison.low, disk.comparison.high) == (-300, -300, -300)
    memory = claims["small", "bytes_in_memory"]
    assert (memory.value, memory.provenance, memory.comparison) == (None, "unavailable", None)
    assert "does not state bytes_in_memory" in memory.note


def test_latency_is_the_median_after_the_warm_up():
    clock = Clock()
    subject = worker("x", clock, [9.0, 9.0, 1.0, 5.0, 2.0, 4.0, 3.0, 6.0])
    settings = parse(latency.Settings, {"warmup": 2, "repetitions": 6, "length": 4}, "latency")
    sample = latency.measure(Bench((subject,), clock=clock), text("the cat."), settings)["x"]["latency"]
    assert isinstance(sample, Sampled)
    assert sample.value() == pytest.approx(3.5)
    assert sample.n == 6


def test_subjects_take_turns_and_who_begins_moves_on():
    clock, calls = Clock(), []
    subjects = tuple(worker(name, clock, [1.0], calls) for name in "abc")
    settings = parse(latency.Settings, {"warmup": 0, "repetitions": 3, "length": 4}, "latency")
    latency.measure(Bench(subjects, clock=clock), text("the cat."), settings)
    assert "".join(calls) == "abcbcacab"


def test_a_latency_claim_is_bounded_by_order_statistics_and_paired_by_round():
    subjects = [random_bigram("whole", 0), random_bigram("small", 1)]
    tasks = [task("latency", text("the cat sat on the mat."), length=8, repetitions=8, warmup=1)]
    whole, small = run(subjects, reference="whole", tasks=tasks, resamples=200)
    assert whole.unit == "s" and whole.n == 8 and "order statistics 1 and 8" in whole.interval
    assert whole.low is not None and whole.value is not None and whole.low <= whole.value
    assert small.comparison is not None and "permutation" in small.comparison.test


def test_classifiers_are_timed_too():
    net = Subject("net", "sha", classify=lambda x: x)
    data = Labelled(torch.zeros(4, 2), torch.zeros(4, dtype=torch.int64), "made up")
    (claim,) = run([net], tasks=[task("latency", data, batch=2, repetitions=1)])
    assert claim.value is not None and claim.value >= 0
    assert claim.low is None and "6 can" in claim.interval


def test_a_workload_larger_than_the_text_is_refused():
    with pytest.raises(DataError, match="4 tokens, the workload needs 128"):
        run([random_bigram("x", 0)], tasks=[task("latency", text("cats"))])


def rapl(root: Path, *microjoules: int, wrap: int = 1_000_000) -> Path:
    for number, value in enumerate(microjoules):
        folder = root / f"intel-rapl:{number}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "energy_uj").write_text(f"{value}\n")
        (folder / "max_energy_range_uj").write_text(f"{wrap}\n")
    part = root / "intel-rapl:0:0"  # a part of package 0, which must not be counted twice
    part.mkdir(exist_ok=True)
    (part / "energy_uj").write_text("7\n")
    return root


def test_joules_are_summed_over_packages_and_survive_one_wrap(tmp_path):
    counters, _ = _rapl.counters(rapl(tmp_path, 100, 999_000))
    assert len(counters) == 2
    assert _rapl.joules_between(counters, [100, 999_000], [2100, 1000]) == pytest.approx((2000 + 2000) / 1e6)


def test_measured_energy_is_joules_per_call(tmp_path):
    root, clock = rapl(tmp_path, 0, wrap=10**12), Clock()
    spent = itertools.count(3_000_000, 3_000_000)

    def logits(ids, mask):
        clock.now += 0.25
        rapl(tmp_path, next(spent), wrap=10**12)
        return torch.zeros(*ids.shape, 2)

    bench = Bench((Subject("x", "sha", logits=logits),), clock=clock)
    settings = parse(energy.Settings, {"length": 4, "seconds": 1.0, "repetitions": 6}, "energy")
    sample = energy.measure(bench, text("the cat."), settings, root=str(root))["x"]["energy"]
    assert isinstance(sample, Sampled)
    assert sample.value() == pytest.approx(3.0)  # 4 calls of 3 J in each repetition
    assert sample.n == 6


def test_energy_without_a_counter_is_unavailable_and_says_why(tmp_path):
    found = energy.measure(
        Bench((random_bigram("x", 0),)), text("the cat."), parse(energy.Settings, {}, "energy"), root=str(tmp_path)
    )
    assert found["x"]["energy"] == Unavailable(f"no RAPL package counter under {tmp_path}")


def test_an_unreadable_counter_is_named(tmp_path):
    rapl(tmp_path, 5)
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("")
    counters, reason = _rapl.counters(tmp_path)
    assert counters == () and "intel-rapl:0/energy_uj cannot be read: ValueError" in reason


def test_an_estimate_is_labelled_with_its_assumption(tmp_path):
    clock = Clock()
    settings = parse(energy.Settings, {"length": 4, "seconds": 1.0, "repetitions": 3, "estimate_watts": 20.0}, "energy")
    found = energy.measure(
        Bench((worker("x", clock, [0.5]),), clock=clock), text("the cat."), settings, root=str(tmp_path)
    )
    sample = found["x"]["energy"]
    assert isinstance(sample, Estimated)
    assert sample.amount == pytest.approx(10.0)
    assert "0.5 s median wall-clock time x 20 W assumed" in sample.basis and "not measured" in sample.basis


@pytest.mark.skipif(bool(_rapl.counters()[0]), reason="this machine has RAPL counters")
def test_an_energy_claim_without_counters_has_no_value_and_a_provenance():
    subjects = [random_bigram("whole", 0), random_bigram("small", 1)]
    data = text("the cat sat on the mat.")
    for claim in run(subjects, reference="whole", tasks=[task("energy", data)]):
        assert (claim.value, claim.n, claim.provenance, claim.comparison) == (None, 0, "unavailable", None)
    tasks = [task("energy", data, estimate_watts=30.0, length=8, seconds=0.001, repetitions=1)]
    claim = run(subjects, tasks=tasks)[0]
    assert (
        claim.provenance == "estimated" and claim.value is not None and claim.value > 0 and "30 W assumed" in claim.note
    )

"""From samples to claims: one resampling for all subjects of a task, an interval each, and the paired comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from netweight.claim import Claim, Comparison
from netweight.errors import EvidenceError
from netweight.evaluate import _statistics
from netweight.evaluate._paired import compare, judged, ratio_interval, verdict
from netweight.evaluate._samples import Additive, Estimated, Exact, Random, Sample, Sampled, Unavailable
from netweight.evaluate._statistics import Interval
from netweight.evaluate._subject import Subject
from netweight.evaluate._task import Quantity, Task
from netweight.provenance import sha256_of_json

NOTHING_RANDOM = "none: nothing is random"


@dataclass(frozen=True)
class Terms:
    """What all claims of a run share."""

    reference: str | None
    seed: int
    resamples: int
    margins: Mapping[str, float]
    command: str
    environment: Mapping[str, Any]
    run: Mapping[str, Any]  # batch size, resamples and the like, for Claim.settings["run"]
    ratios: Sequence[str] = ()


def claims_of(
    task: Task, quantity: Quantity, samples: Mapping[str, Sample], subjects: Sequence[Subject], terms: Terms
) -> list[Claim]:
    """One claim per subject that has a sample, in the subjects' order.

    Raises:
      EvidenceError: a value is not finite, or subjects have different numbers of items.
    """
    replicates = _replicates(task, samples, terms)
    alone = {name: s.alone() if isinstance(s, Additive) else s for name, s in samples.items()}
    own = replicates | _replicates(task, {name: s for name, s in alone.items() if s is not samples[name]}, terms)
    found = []
    for subject in subjects:
        if subject.name not in samples:
            continue
        sample = samples[subject.name]
        value = _value(sample, subject.name, quantity.name)
        interval = _interval(alone[subject.name], own.get(subject.name))
        comparison, note = _comparison(task, quantity, samples, replicates, subject.name, interval, terms)
        found.append(_claim(task, quantity, subject, alone[subject.name], value, interval, comparison, note, terms))
    return found + _ratios(quantity, found, samples, replicates, terms)


def _ratios(
    quantity: Quantity,
    claims: Sequence[Claim],
    samples: Mapping[str, Sample],
    replicates: Mapping[str, np.ndarray],
    terms: Terms,
) -> list[Claim]:
    """The quantity over the reference's, where it is wanted and both have it on more than one item."""
    reference = terms.reference
    if quantity.name not in terms.ratios or reference is None or reference not in replicates:
        return []
    made = []
    for claim in claims:
        if claim.subject == reference or claim.subject not in replicates:
            continue
        pair = samples[claim.subject], samples[reference], replicates[claim.subject], replicates[reference]
        value, interval = ratio_interval(*pair)  # pyright: ignore[reportArgumentType]
        if not np.isfinite(value):
            raise EvidenceError(f"{claim.subject}: {quantity.name} of {reference} is 0; there is no ratio to it")
        note = "; ".join(part for part in (f"{quantity.name} divided by that of {reference}", interval.note) if part)
        made.append(
            replace(
                claim, metric=f"{quantity.name}_ratio", value=value, unit="1", low=interval.low, high=interval.high,
                interval=interval.method, note=note, comparison=None,
            )
        )  # fmt: skip
    return made


def _claim(
    task: Task,
    quantity: Quantity,
    subject: Subject,
    sample: Sample,
    value: float | None,
    interval: Interval,
    comparison: Comparison | None,
    note: str,
    terms: Terms,
) -> Claim:
    counts = dict(sample.counts) if isinstance(sample, Additive | Sampled) else {}
    provenance = {Unavailable: "unavailable", Estimated: "estimated"}.get(type(sample), "measured")
    margin = {"margin": terms.margins[quantity.name]} if quantity.name in terms.margins else {}
    return Claim(
        metric=quantity.name,
        value=value,
        unit=quantity.unit,
        n=sample.n if isinstance(sample, Additive | Sampled) else 1 - isinstance(sample, Unavailable),
        low=interval.low,
        high=interval.high,
        interval=interval.method,
        subject=subject.name,
        subject_sha256=subject.sha256,
        better=quantity.better,
        level=_statistics.LEVEL,
        provenance=provenance,  # pyright: ignore[reportArgumentType]
        settings=task.to_settings() | {"run": dict(terms.run) | margin | {"reference": terms.reference}},
        data=(task.data.describe() if task.data else {}) | counts,
        seeds={"resampling": terms.seed},
        environment=dict(terms.environment),
        command=terms.command,
        note="; ".join(part for part in (interval.note, note) if part),
        comparison=comparison,
    )


def _replicates(task: Task, samples: Mapping[str, Sample], terms: Terms) -> dict[str, np.ndarray]:
    """The statistic of every subject on the same resamples of items.

    The generator depends on the seed and the task alone, so that a claim recomputed by itself has the same interval.
    """
    random = {name: sample for name, sample in samples.items() if isinstance(sample, Additive | Sampled)}
    sizes = {sample.n for sample in random.values()}
    if len(sizes) > 1:
        raise EvidenceError(
            f"{task.metric}: subjects have different numbers of items {sorted(sizes)}; they cannot be paired"
        )
    if not sizes or max(sizes) < 2:
        return {}
    parts: dict[str, list[np.ndarray]] = {name: [] for name in random}
    for indices_RN in _statistics.resamples_of(max(sizes), terms.resamples, _generator(task, terms, "intervals")):
        for name, sample in random.items():
            parts[name].append(sample.at(indices_RN))
    return {name: np.concatenate(found) for name, found in parts.items()}


def _generator(task: Task, terms: Terms, purpose: str) -> np.random.Generator:
    words = int(sha256_of_json([task.to_settings(), purpose])[:16], 16)
    return np.random.default_rng([terms.seed, words])


def _value(sample: Sample, subject: str, metric: str) -> float | None:
    if isinstance(sample, Unavailable):
        return None
    if isinstance(sample, Exact | Estimated):
        return sample.amount
    value = sample.value()
    if not np.isfinite(value):
        raise EvidenceError(
            f"{subject}: {metric} is {value} over {sample.n} {sample.items}; it has no finite value here"
        )
    return value


def _interval(sample: Sample, replicates_R: np.ndarray | None) -> Interval:
    if isinstance(sample, Unavailable):
        return Interval(None, None, "none: unavailable", sample.reason)
    if isinstance(sample, Estimated):
        return Interval(None, None, "none: an estimate, not a measurement", sample.basis)
    if isinstance(sample, Exact):
        return Interval(None, None, NOTHING_RANDOM)
    if isinstance(sample, Sampled) and sample.shape == "median":
        return _statistics.median_interval(sample.values_NK[:, 0], items=sample.items)
    if replicates_R is None:
        method = f"none: {sample.n} {sample.items}, and an interval needs at least 2"
        return Interval(None, None, method, f"n = {sample.n}: how far the value would vary is unknown, not nothing")
    if sample.binary and np.ptp(sample.values_NK[:, 0]) == 0:
        return _statistics.binomial_interval(int(sample.values_NK[:, 0].sum()), sample.n, items=sample.items)
    return _statistics.bca(sample.value(), replicates_R, sample.leave_one_out(), items=sample.items)


def _comparison(
    task: Task,
    quantity: Quantity,
    samples: Mapping[str, Sample],
    replicates: Mapping[str, np.ndarray],
    name: str,
    interval: Interval,
    terms: Terms,
) -> tuple[Comparison | None, str]:
    """Against the reference: by definition, exact, or paired; None for the reference itself and where one side has no number."""
    margin = terms.margins.get(quantity.name)
    if terms.reference is None or name == terms.reference:
        return None, ""
    subject = samples[name]
    if quantity.ideal is not None:
        return _against_ideal(quantity, subject, interval, margin, terms.reference)
    reference = samples.get(terms.reference)
    if isinstance(subject, Exact) and isinstance(reference, Exact):
        difference = float(subject.amount - reference.amount)
        found = None if margin is None else verdict(difference, difference, margin, quantity.better)
        return Comparison(terms.reference, difference, difference, difference, margin, found, None, "exact"), ""
    if not isinstance(subject, Random) or not isinstance(reference, Random):
        return None, ""
    pair = (replicates.get(name, np.zeros(0)), replicates.get(terms.reference, np.zeros(0)))
    rng = _generator(task, terms, "tests")
    return compare(subject, reference, pair, name=terms.reference, better=quantity.better, margin=margin, rng=rng)


def _against_ideal(
    quantity: Quantity, subject: Sample, interval: Interval, margin: float | None, reference: str
) -> tuple[Comparison | None, str]:
    """A quantity that already compares with the reference: its distance from what the reference has with itself."""
    if not isinstance(subject, Random) or quantity.ideal is None or interval.low is None or interval.high is None:
        return None, ""
    low, high = interval.low - quantity.ideal, interval.high - quantity.ideal
    found, note = judged(subject.n, subject.items, low, high, margin=margin, better=quantity.better)
    test = f"the reference with itself has {quantity.ideal:g} by definition; interval: {interval.method}"
    return Comparison(reference, subject.value() - quantity.ideal, low, high, margin, found, None, test), note

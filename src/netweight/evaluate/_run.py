"""Measure subjects on tasks and hand back claims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from netweight.claim import Claim
from netweight.errors import SettingsError, nearest
from netweight.evaluate._bench import Bench, Progress
from netweight.evaluate._claims import Terms, claims_of
from netweight.evaluate._items import Text
from netweight.evaluate._samples import Additive, Sample
from netweight.evaluate._segment import measure_masks
from netweight.evaluate._subject import Subject
from netweight.evaluate._task import Task
from netweight.evaluate._tokens import Scorer, walk
from netweight.evaluate._windows import TextSettings, cut
from netweight.provenance import environment as environment_of

Measured = dict[str, dict[str, Sample]]  # subject -> quantity -> sample


def run(
    subjects: Sequence[Subject],
    *,
    reference: str | None = None,
    tasks: Sequence[Task],
    batch_size: int = 8,
    seed: int = 0,
    resamples: int = 2000,
    margins: Mapping[str, float] | None = None,
    ratios: Sequence[str] = (),
    command: str = "",
    environment: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> list[Claim]:
    """Every quantity of every task for every subject, each with an interval, and paired with the reference.

    All subjects see the same batches in lock step. Metrics of one text with equal window settings share one pass, and so
    do all metrics of the same masks.

    Args:
      reference: name of the subject the others are compared with; None for no comparison.
      batch_size: changes time and memory, never a score.
      seed: of the resampling; the interval of a claim depends on it and on the task, not on the other tasks.
      resamples: bootstrap resamples, and random arrangements of the permutation test.
      margins: worst tolerated change per quantity, in its unit: ``{"perplexity": 0.5, "multiple_choice_raw": 0.02}``.
      ratios: quantities of which the ratio to the reference is wanted too, as a claim named ``<quantity>_ratio``.
      command, environment: recorded in every claim; ``environment`` defaults to this machine and process.
      progress: called with (what, batches done, batches in all).
    Returns:
      claims in the order of tasks, then quantities, then subjects.
    Raises:
      SettingsError: names that do not fit, a margin that no task uses, a subject without the callable a task needs.
      DataError: nothing to score. EvidenceError: a score is not finite.
    """
    margins = dict(margins or {})
    check(subjects, reference, tasks, margins, ratios, batch_size, resamples, seed)
    ordered = sorted(subjects, key=lambda s: s.name != reference)  # the reference first, the rest in their order
    bench = Bench(tuple(ordered), reference, batch_size, progress)
    found = dict(environment) if environment is not None else environment_of(threads=torch.get_num_threads())
    asked = {"batch_size": batch_size, "resamples": resamples}
    terms = Terms(reference, seed, resamples, margins, command, found, asked, tuple(ratios))
    with torch.no_grad():
        measured = _measure(bench, tasks)
    return concluded(tasks, measured, subjects, terms)


def concluded(
    tasks: Sequence[Task], measured: Sequence[Measured], subjects: Sequence[Subject], terms: Terms
) -> list[Claim]:
    """Claims from what each task measured, in the order of tasks, then quantities, then subjects."""
    return [
        claim
        for task, samples in zip(tasks, measured, strict=True)
        for quantity in task.quantities
        for claim in claims_of(
            task, quantity, {s: q[quantity.name] for s, q in samples.items() if quantity.name in q}, subjects, terms
        )
    ]


def check(
    subjects: Sequence[Subject],
    reference: str | None,
    tasks: Sequence[Task],
    margins: Mapping[str, float],
    ratios: Sequence[str],
    batch_size: int,
    resamples: int,
    seed: int,
) -> None:
    """Refuse what cannot be measured before anything is."""
    names = [subject.name for subject in subjects]
    if not names or not tasks:
        raise SettingsError(f"{len(names)} subjects and {len(tasks)} tasks: need at least one of each")
    if len(set(names)) < len(names):
        raise SettingsError(f"subjects {names} share a name; claims could not be told apart")
    if reference is not None and reference not in names:
        raise SettingsError(f"reference {reference!r} is not a subject{nearest(reference, names)}")
    for name, value, least in (("batch_size", batch_size, 1), ("resamples", resamples, 100), ("seed", seed, 0)):
        if value < least:
            raise SettingsError(f"{name} = {value}: must be at least {least}")
    known = {quantity.name for task in tasks for quantity in task.quantities}
    for name, margin in margins.items():
        if name not in known:
            raise SettingsError(f"margin for {name!r}, which no task measures{nearest(name, known)}")
        if not 0 < margin < float("inf"):
            raise SettingsError(f"margin for {name} = {margin}: must be a positive number")
    for name in ratios:
        if name not in known or reference is None:
            why = nearest(name, known) if name not in known else "; pass reference="
            raise SettingsError(f"ratio of {name!r} to the reference {reference!r}{why}")
    for task in tasks:
        if reference is None and getattr(task.plugin, "NEEDS_REFERENCE", False):
            raise SettingsError(f"{task.metric} compares with a reference; pass reference= one of {names}")


def _measure(bench: Bench, tasks: Sequence[Task]) -> list[Measured]:
    """Samples of every task; token metrics of one text and equal window settings share one pass, metrics of masks too."""
    shared: dict[tuple[int, str], list[Task]] = {}
    for task in tasks:
        if (key := _pass_of(task)) is not None:
            shared.setdefault(key, []).append(task)
    masks: dict[int, list[Task]] = {}
    for task in tasks:
        if hasattr(task.plugin, "of_masks"):
            masks.setdefault(id(task.data), []).append(task)
    done: dict[int, Measured] = {}
    found = []
    for task in tasks:
        if hasattr(task.plugin, "of_masks"):
            if id(task) not in done:
                alike = masks[id(task.data)]
                done |= {id(one): made for one, made in zip(alike, measure_masks(bench, alike), strict=True)}
            found.append(done[id(task)])
            continue
        key = _pass_of(task)
        if key is None:
            found.append(task.plugin.measure(bench, task.data, task.settings))
            continue
        if id(task) not in done:
            done |= _measure_tokens(bench, shared[key])
        found.append(done[id(task)])
    return found


def _window_settings(task: Task) -> TextSettings:
    return TextSettings.model_validate({name: getattr(task.settings, name) for name in TextSettings.model_fields})


def _pass_of(task: Task) -> tuple[int, str] | None:
    if not isinstance(task.data, Text) or not isinstance(task.settings, TextSettings):
        return None
    return id(task.data), _window_settings(task).model_dump_json()


def _measure_tokens(bench: Bench, tasks: Sequence[Task]) -> dict[int, Measured]:
    """One pass over a text for several token metrics."""
    text = tasks[0].data
    settings = _window_settings(tasks[0])
    windows, clusters = cut(text, settings)  # pyright: ignore[reportArgumentType]
    scorers = {
        str(number): Scorer(task.plugin.score, getattr(task.plugin, "NEEDS_REFERENCE", False))
        for number, task in enumerate(tasks)
    }
    sums = walk(bench, windows, clusters, scorers, f"{'+'.join(task.metric for task in tasks)} on {text.source}")  # pyright: ignore[reportOptionalMemberAccess]
    counts = {"tokens": sum(len(w.scored_S) for w in windows), "windows": len(windows)}
    items = f"{settings.cluster}s"
    return {
        id(task): {
            subject: {task.quantities[0].name: Additive(found[str(number)], task.plugin.of_sums, items, counts)}
            for subject, found in sums.items()
            if str(number) in found
        }
        for number, task in enumerate(tasks)
    }

"""Trained runs judged: masks of test patients, paired with another run on the same slices, claims kept beside each run."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from netweight.claim import Claim, read_claims, write_claims
from netweight.errors import DataError, SettingsError
from netweight.evaluate import mask_metrics, task
from netweight.evaluate import run as judge
from netweight.jobs import _runs
from netweight.jobs._entrants import Entrant, Tested, entrant, tested
from netweight.progress import Progress

RATIOS = ("auprc",)


def judged(
    sources: Sequence[Any],
    *,
    against: Any,
    data: str | Path | None,
    batch_size: int,
    threads: int,
    out: str | Path | None,
    progress: Progress | None,
) -> list[Claim]:
    """Every metric of masks for runs and packed artifacts.

    A packed artifact without ``against`` is judged beside the simulation of its own run. Claims replace those on the same slices in the
    ``claims.jsonl`` of what they are about; claims on other slices stay.

    Raises:
      SettingsError: something else than runs among them, or names that cannot be told apart.
      DataError: slices that a run has learnt from, or runs to be paired that were not tested on the same slices.
    """
    everyone = [_entrant(source) for source in (*sources, *([] if against is None else [against]))]
    runs = _runs.told_apart([one.run for one in everyone])
    everyone = [replace(one, run=run) for one, run in zip(everyone, runs, strict=True)]
    found, other = everyone[: len(sources)], None if against is None else everyone[-1]
    command = _command(found, other, data, batch_size, threads, out)
    claims: list[Claim] = []
    for group, reference in _groups(found, other):
        where = _common([*([reference] if reference else []), *group], data)
        made = judge(
            [one.subject for one in ([reference] if reference else []) + group],
            reference=reference.name if reference else None,
            tasks=[task(name, where.masked) for name in mask_metrics()],
            batch_size=batch_size,
            seed=(reference or group[0]).run.recipe.seed,
            ratios=RATIOS if reference else (),
            command=command,
            progress=progress,
        )
        for one in [*([reference] if reference else []), *group]:
            made = one.run.noted(made, one.sha256)
        claims += [_with_terms(claim, data, reference, where.slices.note, where.overlap) for claim in made]
    if out is not None:
        write_claims(out, claims)
    else:
        for one in found:
            _keep(one, claims)
    return claims


def _entrant(source: Any) -> Entrant:
    found = entrant(source)
    if found is None:
        raise SettingsError(
            f"{getattr(source, 'path', source)} is no trained run, nor what one was packed to in its folder; runs are judged among runs, "
            "other models by another command"
        )
    return found


def _groups(found: Sequence[Entrant], other: Entrant | None) -> list[tuple[list[Entrant], Entrant | None]]:
    """Who is judged together, and with whom as reference: all with what is named, else each by itself, a packed one with its run."""
    names = [one.name for one in (*found, *([other] if other else []))]
    if len(set(names)) < len(names):
        raise SettingsError(f"two of {', '.join(names)} share a name; name each once")
    if other is not None:
        return [(list(found), other)]
    simulated = {one.name for one in found if one.artifact is None}
    groups: list[tuple[list[Entrant], Entrant | None]] = []
    for one in found:
        beside = one.artifact is not None and one.run.name not in simulated
        groups.append(([one], Entrant(one.run) if beside else None))
    return groups


def _common(everyone: Sequence[Entrant], source: str | Path | None) -> Tested:
    """The slices that all of them may be tested on. Raises: DataError: there are none, as their tests differ."""
    places: dict[str, Tested] = {}
    for one in everyone:
        if one.run.name not in places:
            places[one.run.name] = tested(one.run, source)
    first, *rest = places.items()
    for name, where in rest:
        if not first[1].same(where):
            raise DataError(
                f"{first[0]} and {name} are tested on different slices "
                f"({first[1].slices.source} at {first[1].slices.images.shape[1]} pixels, {len(first[1].numbers)} slices, and "
                f"{where.slices.source} at {where.slices.images.shape[1]} pixels, {len(where.numbers)} slices): they cannot be "
                "paired. Train both by the same split and size, or give data that neither has seen"
            )
    return first[1]


def _with_terms(claim: Claim, source: str | Path | None, reference: Entrant | None, *notes: str) -> Claim:
    """With what ``verify`` needs to find slices and reference again, and what the data's reader should know."""
    terms = dict(claim.settings["run"])
    if source is not None:
        terms["given"] = str(source)
    if reference is not None:
        terms["reference_sha256"] = reference.sha256
    said = "; ".join(part for part in (claim.note, *notes) if part)
    return replace(claim, settings=claim.settings | {"run": terms}, note=said)


def _keep(one: Entrant, claims: Sequence[Claim]) -> None:
    """Its own claims in the place of those on the same slices."""
    own = [claim for claim in claims if claim.subject_sha256 == one.sha256 and claim.subject == one.name]
    again = {_slices(claim) for claim in own}
    path = one.path / _runs.CLAIMS
    write_claims(path, [*(claim for claim in read_claims(path) if _slices(claim) not in again), *own])


def _slices(claim: Claim) -> tuple[str, ...]:
    return tuple(str(claim.data.get(name, "")) for name in ("source", "split", "sha256"))


def _command(
    found: Sequence[Entrant],
    other: Entrant | None,
    source: str | Path | None,
    batch_size: int,
    threads: int,
    out: str | Path | None,
) -> str:
    words = ["netweight", "evaluate", *(os.path.relpath(one.path) for one in found)]
    words += ["--against", os.path.relpath(other.path)] if other else []
    words += ["--data", str(source)] if source is not None else []
    words += ["--batch-size", str(batch_size)]
    words += ["--threads", str(threads)] if threads else []
    words += ["--out", str(out)] if out is not None else []
    return shlex.join(words)

"""Claims beside a trained run, or beside what it was packed to, measured again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from netweight.claim import Claim
from netweight.errors import DataError, EvidenceError, UnknownName, nearest
from netweight.evaluate import Subject, Task
from netweight.jobs import _again
from netweight.jobs._again import Check, Key
from netweight.jobs._entrants import Entrant, Tested, entrant, tested
from netweight.progress import Progress

OWN = ""  # the run's own test patients


def checked(
    one: Entrant, claims: Sequence[Claim], only: str | None, against: Any, progress: Progress | None
) -> list[Check]:
    """Each claim measured again on slices found again; comparisons where the reference is at hand.

    Args:
      only: the one metric that is asked for; None for all.
      against: the run that claims compare with; what was packed is compared with its own run by itself.
    Raises:
      UnknownName: no claim of that metric. EvidenceError: no claim compares with ``against``.
    """
    known = {claim.metric for claim in claims}
    if only is not None and only not in known:
        raise UnknownName(f"no claim of {only!r}{nearest(only, known)}")
    wanted = [claim for claim in claims if only in (None, claim.metric)]
    other = _reference(one, wanted, against)
    found = _tasks(one, wanted)
    checks: dict[int, Check] = {}
    for reference in (None, other) if other is not None else (None,):
        some = [claim for claim in wanted if _compares(claim, other) == (reference is not None)]
        if not some:
            continue
        subjects = {one.sha256: replace(one.subject, name=some[0].subject)}
        if reference is not None:
            subjects[reference.sha256] = replace(reference.subject, name=str(_terms(some[0])["reference"]))
        checks |= _checks(
            some, found, subjects, None if reference is None else subjects[reference.sha256].name, progress
        )
    return [checks[id(claim)] for claim in wanted]


def _checks(
    some: Sequence[Claim],
    found: dict[Key, Task | str],
    subjects: dict[str, Subject],
    reference: str | None,
    progress: Progress | None,
) -> dict[int, Check]:
    again = _again.measured(some, found, subjects, reference, progress)
    return {id(claim): _again.judged(claim, found[_again.key(claim)], again, subjects, reference) for claim in some}


def _reference(one: Entrant, claims: Sequence[Claim], against: Any) -> Entrant | None:
    """What claims compare with, where it is at hand. Raises: EvidenceError: no claim compares with what was named."""
    if against is None:
        return Entrant(one.run) if one.artifact is not None else None
    other = entrant(against)
    if other is None or not any(_compares(claim, other) for claim in claims):
        named = sorted({str(_terms(claim).get("reference")) for claim in claims if "reference_sha256" in _terms(claim)})
        raise EvidenceError(f"no claim compares with {against}; they compare with {', '.join(named) or 'nothing'}")
    return other


def _compares(claim: Claim, other: Entrant | None) -> bool:
    return other is not None and _terms(claim).get("reference_sha256") == other.sha256


def _terms(claim: Claim) -> dict[str, Any]:
    return claim.settings.get("run", {})


def _tasks(one: Entrant, claims: Sequence[Claim]) -> dict[Key, Task | str]:
    """The task of each claim on its slices, or why they are not to be had."""
    places: dict[str, Tested | str] = {}
    tasks: dict[Key, Task | str] = {}
    for claim in claims:
        given = str(_terms(claim).get("given", OWN))
        if given not in places:
            places[given] = _tested(one, given)
        where = places[given]
        if isinstance(where, Tested) and where.masked.describe()["sha256"] != claim.data.get("sha256"):
            where = f"{where.slices.source} is not what the claim was measured on"
        if _again.key(claim) not in tasks:
            tasks[_again.key(claim)] = (
                where if isinstance(where, str) else Task.from_settings(claim.settings, where.masked)
            )
    return tasks


def _tested(one: Entrant, given: str) -> Tested | str:
    try:
        return tested(one.run, given or None)
    except DataError as error:
        return str(error)

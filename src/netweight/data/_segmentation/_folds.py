"""Splits by patient: folds, a holdout, and one site left out.

Patients are ordered by tercile of their share of positive slices, and within a tercile by a hash of seed and name; then they are dealt
out one after the other to whichever part is furthest behind its share. So every part gets its share of every tercile, and what is drawn depends
neither on the order of files nor on a library's generator. Du & Rybakov (arXiv 2605.27616) stratify by the same terciles.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from netweight.data._segmentation._segmentation import Segmentation
from netweight.data._segmentation._split import Split, digests, indices_of, refuse_test_only, split
from netweight.errors import DataError
from netweight.provenance import sha256_of_json

TERCILES = (1 / 3, 2 / 3)


def folds(data: Segmentation, k: int = 5, *, seed: int = 0) -> tuple[Split, ...]:
    """k splits; every patient is held out once, half of the held-out patients validate and half test.

    Raises: DataError: k below 2; fewer than two patients a fold; a part without a positive slice; data for testing only.
    """
    refuse_test_only(data)
    count = len(set(data.patients))
    if k < 2:
        raise DataError(f"k = {k}: there are at least 2 folds; for one split use holdout")
    if count < 2 * k:
        raise DataError(
            f"{data.source} has {count} patients, too few for {k} folds: each needs two, one to validate and one to test; "
            f"ask for at most {count // 2} folds"
        )
    held_out = _dealt(_ordered(data, seed), [1 / k] * k)
    return _splits(data, [_fold(f"fold {i + 1} of {k}", i, held_out) for i in range(k)], seed)


def holdout(data: Segmentation, shares: Sequence[float] = (0.8, 0.1, 0.1), *, seed: int = 0) -> Split:
    """One split whose parts hold these shares of the patients: train, validation, test.

    Raises: DataError: shares that are not three positive numbers of sum 1, and as ``folds``.
    """
    refuse_test_only(data)
    if len(shares) != 3 or min(shares) <= 0 or abs(sum(shares) - 1) > 1e-6:
        raise DataError(f"shares = {tuple(shares)}: three positive numbers of sum 1, such as (.8, .1, .1)")
    train, validation, test = _dealt(_ordered(data, seed), shares)
    return _splits(data, [("holdout", train, validation, test)], seed)[0]


def leave_one_site_out(
    data: Segmentation, *, seed: int = 0, validation: float = 0.1, sites: Iterable[str] | None = None
) -> tuple[Split, ...]:
    """A split for each site, by name: its patients test, of all others the share ``validation`` validates, the rest trains.

    Args:
      sites: the sites to leave out; by default every one. The others train all the same.
    Raises: DataError: sites not known, or only one; an unknown one asked for; and as ``folds``.
    """
    refuse_test_only(data)
    known = sorted(set(data.sites))
    if len(known) < 2 or "" in known:
        said = f"all slices are of site {known[0]!r}" if len(known) == 1 and known[0] else "sites are not known"
        raise DataError(f"{data.source}: {said}; leaving one out needs at least two. Use folds or holdout")
    if not 0 < validation < 1:
        raise DataError(f"validation = {validation}: a share between 0 and 1")
    asked = known if sites is None else list(sites)
    if strange := sorted(set(asked) - set(known)):
        raise DataError(f"{data.source} has no site {strange[0]!r}; it has {', '.join(known)}")
    order = _ordered(data, seed)
    site = dict(zip(data.patients, data.sites, strict=True))
    wanted = []
    for out in asked:
        others = [patient for patient in order if site[patient] != out]
        train, validating = _dealt(others, (1 - validation, validation))
        wanted.append((f"without site {out}", train, validating, [p for p in order if site[p] == out]))
    return _splits(data, wanted, seed)


Wanted = tuple[str, list[str], list[str], list[str]]


def _splits(data: Segmentation, wanted: Iterable[Wanted], seed: int) -> tuple[Split, ...]:
    pixels = digests(data)
    found = []
    for name, *parts in wanted:
        train, validation, test = (indices_of(data, part).tolist() for part in parts)
        found.append(split(data, train=train, validation=validation, test=test, name=name, seed=seed, pixels=pixels))
    return tuple(found)


def _fold(name: str, i: int, held_out: list[list[str]]) -> Wanted:
    test, validation = _dealt(held_out[i], (0.5, 0.5))
    return name, [patient for j, part in enumerate(held_out) if j != i for patient in part], validation, test


def _ordered(data: Segmentation, seed: int) -> list[str]:
    """Patients by tercile of their share of positive slices, then as the seed has it."""
    patients = sorted(set(data.patients))
    number = {patient: i for i, patient in enumerate(patients)}
    which = np.array([number[patient] for patient in data.patients])
    share = np.bincount(which, weights=data.positive) / np.bincount(which)
    tercile = np.searchsorted(np.quantile(share, TERCILES), share, side="left")
    return sorted(patients, key=lambda patient: (tercile[number[patient]], sha256_of_json([seed, patient])))


def _dealt(order: Sequence[str], shares: Sequence[float]) -> list[list[str]]:
    """Each in turn to the part that is furthest behind its share of those dealt so far; the first of equals."""
    parts: list[list[str]] = [[] for _ in shares]
    for dealt, patient in enumerate(order, 1):
        behind = [round(share * dealt - len(part), 9) for share, part in zip(shares, parts, strict=True)]
        parts[behind.index(max(behind))].append(patient)
    return parts

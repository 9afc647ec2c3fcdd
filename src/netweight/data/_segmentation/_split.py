"""A split: which slices train, which choose the best weights, which are kept for the end. No patient is in two parts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from netweight.data._segmentation._segmentation import Segmentation
from netweight.errors import DataError
from netweight.provenance import sha256_of_json
from netweight.words import counted, some

PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Split:
    """Indices of slices, ascending, and the patients of each part, sorted.

    ``sha256`` is the hash of the data's and of the slices' names by part; ``positives`` counts slices with a lesion in train, validation
    and test. ``duplicates`` are pairs of slices in different parts whose pixels are all equal, although their patients differ.
    Raises: DataError: an empty part, or a slice or patient in two parts.
    """

    name: str
    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]
    train_patients: tuple[str, ...]
    validation_patients: tuple[str, ...]
    test_patients: tuple[str, ...]
    positives: tuple[int, int, int]
    data_sha256: str
    sha256: str
    seed: int | None = None
    duplicates: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        for part in PARTS:
            if not getattr(self, part):
                raise DataError(f"{self.name}: {part} is empty; give more patients, or fewer parts")
        for first, second in combinations(PARTS, 2):
            self._check_apart(first, second, "_patients", "patient")
            self._check_apart(first, second, "", "slice")

    def _check_apart(self, first: str, second: str, suffix: str, what: str) -> None:
        both = sorted(set(getattr(self, first + suffix)) & set(getattr(self, second + suffix)))
        if both:
            raise DataError(
                f"{self.name}: {first} and {second} share {counted(len(both), what)} ({some(both)}); a split goes by patient: neighbouring slices are nearly equal"
            )

    @property
    def provenance(self) -> dict[str, Any]:
        """Plain data for a record."""
        patients = {part: len(getattr(self, f"{part}_patients")) for part in PARTS}
        slices = {part: len(getattr(self, part)) for part in PARTS}
        return {
            "split": self.name,
            "seed": self.seed,
            "sha256": self.sha256,
            "data_sha256": self.data_sha256,
            "patients": patients,
            "slices": slices,
            "positive": dict(zip(PARTS, self.positives, strict=True)),
            "duplicates": len(self.duplicates),
        }

    def describe(self) -> str:
        """One line for a person."""
        parts = [
            f"{part} {counted(len(getattr(self, part + '_patients')), 'patient')}, {counted(len(getattr(self, part)), 'slice')} ({positive} positive)"
            for part, positive in zip(PARTS, self.positives, strict=True)
        ]
        found = f"; {counted(len(self.duplicates), 'pair')} of equal images across parts" if self.duplicates else ""
        return f"{self.name}: {'; '.join(parts)}{found}"


def split(
    data: Segmentation,
    *,
    train: Iterable[int],
    validation: Iterable[int],
    test: Iterable[int],
    name: str = "split given by the caller",
    seed: int | None = None,
    pixels: Sequence[bytes] = (),
) -> Split:
    """A split by indices of slices.

    Args:
      seed: what it was drawn by, for the record.
      pixels: ``digests(data)``, where several splits of the same data share the work.
    Raises: DataError: as ``Split``; a part without a positive slice; data that is for testing only; an index beyond the data.
    """
    refuse_test_only(data)
    parts = [tuple(sorted({int(i) for i in part})) for part in (train, validation, test)]
    if out := [i for part in parts for i in part if not 0 <= i < len(data)]:
        raise DataError(f"{name}: there is no slice {out[0]}; {data.source} has {len(data)}")
    patients = [tuple(sorted({data.patients[i] for i in part})) for part in parts]
    positives = [int(data.positive[list(part)].sum()) for part in parts]
    found = Split(
        name,
        *(parts[0], parts[1], parts[2]),
        *(patients[0], patients[1], patients[2]),
        positives=(positives[0], positives[1], positives[2]),
        data_sha256=data.sha256,
        sha256=sha256_of_json([data.sha256, *(sorted(data.names[i] for i in part) for part in parts)]),
        seed=seed,
        duplicates=_across(parts, pixels or digests(data)),
    )
    _check_positives(found)
    return found


def refuse_test_only(data: Segmentation) -> None:
    if data.test_only:
        raise DataError(f"{data.source} is for testing only and is not split: {data.test_only}. Test on all of it")


def digests(data: Segmentation) -> list[bytes]:
    """A hash of each slice's pixels; b"" where they are all equal, as in a black slice: such pictures tell nothing."""
    rows = data.images.reshape(len(data), -1)
    return [b"" if (row == row[0]).all() else hashlib.blake2b(row.data, digest_size=16).digest() for row in rows]


def _across(parts: Sequence[Sequence[int]], pixels: Sequence[bytes]) -> tuple[tuple[int, int], ...]:
    """Pairs of slices with equal pixels in different parts, each pair and all pairs ascending."""
    part_of = {i: number for number, part in enumerate(parts) for i in part}
    alike: dict[bytes, list[int]] = {}
    for i in sorted(part_of):
        if pixels[i]:
            alike.setdefault(pixels[i], []).append(i)
    groups = (group for group in alike.values() if len(group) > 1)
    return tuple(sorted((i, j) for group in groups for i, j in combinations(group, 2) if part_of[i] != part_of[j]))


def _check_positives(found: Split) -> None:
    if not any(found.positives):
        raise DataError("none of these slices shows a lesion: there is nothing to learn, and recall has no value")
    for part, count in zip(PARTS, found.positives, strict=True):
        if not count:
            patients = getattr(found, f"{part}_patients")
            raise DataError(
                f"{found.name}: none of the {len(getattr(found, part))} slices of {part} shows a lesion "
                f"({counted(len(patients), 'patient')}: {some(patients)}), so recall has no "
                "value there; ask for fewer folds, take another seed, or give more patients with lesions"
            )


def indices_of(data: Segmentation, patients: Iterable[str]) -> np.ndarray:
    """Slices of these patients, ascending."""
    wanted = set(patients)
    return np.flatnonzero([patient in wanted for patient in data.patients])

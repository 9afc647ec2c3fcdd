"""Who was seen: patients and pictures that a net has learnt from, kept so small that they can stay with the net, and found again in others."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from netweight.data._segmentation._segmentation import Segmentation

DIGITS = 16  # of a picture's sha256: among a million different pictures two are taken for equal with probability 3e-8


@dataclass(frozen=True)
class Seen:
    """Patients by name, and pictures by the first 16 hexadecimal digits of the sha256 of their pixels; both sorted, each once.

    Pictures of one colour, such as black slices, tell nothing and are left out.
    """

    patients: tuple[str, ...]
    pictures: tuple[str, ...]


@dataclass(frozen=True)
class Known:
    """What of some slices was seen: patients by name or by an equal picture, sorted, and how many slices have an equal picture."""

    patients: tuple[str, ...]
    slices: int


def seen(slices: Segmentation, numbers: Iterable[int]) -> Seen:
    """The numbered slices, as the net read them."""
    numbers = list(numbers)
    prints = _prints(slices, numbers)
    return Seen(tuple(sorted({slices.patients[k] for k in numbers})), tuple(sorted({*prints} - {""})))


def known(slices: Segmentation, before: Seen) -> Known:
    """What of these slices stands among those seen.

    Both must have the size that the net reads, or equal pictures are not seen to be equal. A patient under another name whose
    pictures were changed in any way is not found.
    """
    patients, pictures = set(before.patients), set(before.pictures)
    shared = [one in pictures for one in _prints(slices, range(len(slices)))]
    found = {name for name, equal in zip(slices.patients, shared, strict=True) if equal or name in patients}
    return Known(tuple(sorted(found)), sum(shared))


def known_patients(slices: Segmentation, trained: Segmentation, numbers: Iterable[int]) -> tuple[str, ...]:
    """Patients of ``slices`` that stand among the numbered slices of ``trained``, by name or by an equal picture."""
    return known(slices, seen(trained, numbers)).patients


def _prints(slices: Segmentation, numbers: Iterable[int]) -> list[str]:
    """Of each numbered slice; "" where all its pixels' values are equal."""
    rows = slices.images.reshape(len(slices), -1)
    return [
        "" if (rows[k] == rows[k][0]).all() else hashlib.sha256(rows[k].tobytes()).hexdigest()[:DIGITS] for k in numbers
    ]

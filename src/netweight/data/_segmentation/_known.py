"""Whether slices are of patients that other slices show already: by name, or by a picture equal in every pixel."""

from __future__ import annotations

from collections.abc import Iterable

from netweight.data._segmentation._segmentation import Segmentation
from netweight.data._segmentation._split import digests


def known_patients(slices: Segmentation, seen: Segmentation, numbers: Iterable[int]) -> tuple[str, ...]:
    """Patients of ``slices`` that stand among the numbered slices of ``seen``, by name.

    Both must have the size that the net reads, or equal pictures are not seen to be equal. A patient under another name whose
    pictures were changed in any way is not found.
    """
    numbers = list(numbers)
    names, pictures = {seen.patients[k] for k in numbers}, digests(seen)
    shown = {pictures[k] for k in numbers} - {b""}
    return tuple(
        sorted(
            {
                patient
                for patient, picture in zip(slices.patients, digests(slices), strict=True)
                if patient in names or picture in shown
            }
        )
    )

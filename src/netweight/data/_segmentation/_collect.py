"""Slices as readers yield them, put together: in one order, of one size, each with the mask that belongs to it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from netweight.data._segmentation import _resize
from netweight.data._segmentation._segmentation import Segmentation, from_arrays
from netweight.errors import DataError


@dataclass(frozen=True)
class Slice:
    """One image (H, W, 3) uint8 with its mask (H, W) bool. ``where`` names its file in an error."""

    patient: str
    site: str
    number: int  # its place among the patient's slices
    name: str
    image: np.ndarray
    mask: np.ndarray
    where: str


def collect(
    slices: Iterable[Slice],
    *,
    source: str,
    size: int | None,
    phantom: bool = False,
    test_only: str = "",
    note: str = "",
) -> Segmentation:
    """All slices by patient, number and name.

    Raises: DataError: none at all, an image and a mask of different sizes, or images of mixed sizes while ``size`` is None.
    """
    kept = [_checked(item, size) for item in slices]
    if not kept:
        raise DataError(f"{source} holds no slices")
    _check_one_size(kept, source)
    kept.sort(key=lambda item: (item.patient, item.number, item.name))
    return from_arrays(
        np.stack([item.image for item in kept]),
        np.stack([item.mask for item in kept]),
        [item.patient for item in kept],
        sites=[item.site for item in kept],
        names=[item.name for item in kept],
        source=source,
        phantom=phantom,
        test_only=test_only,
        note=note,
    )


def site_of(patient: str) -> str:
    """The second field of a TCGA id, its tissue source site: ``TCGA_HT_7616_19940813`` is of HT. "" for other ids."""
    fields = patient.split("_")
    return fields[1] if fields[0] == "TCGA" and len(fields) > 2 else ""


def _checked(item: Slice, size: int | None) -> Slice:
    if item.image.shape[:2] != item.mask.shape:
        raise DataError(
            f"{item.where}: the image has {_shape(item.image)} pixels, its mask {_shape(item.mask)}; "
            "a mask is drawn on its own image, so find the one that belongs to it"
        )
    if size is None:
        return item
    image, mask = _resize.fit(item.image, item.mask, size)
    return Slice(item.patient, item.site, item.number, item.name, image, mask, item.where)


def _check_one_size(kept: list[Slice], source: str) -> None:
    first = kept[0]
    other = next((item for item in kept if item.image.shape != first.image.shape), None)
    if other is not None:
        raise DataError(
            f"{source} holds images of mixed sizes: {first.where} has {_shape(first.image)} pixels, {other.where} "
            f"{_shape(other.image)}; say size=128 (or another; in a recipe under [data]), and all are "
            "brought to that square"
        )


def _shape(picture: np.ndarray) -> str:
    return f"{picture.shape[0]} x {picture.shape[1]}"

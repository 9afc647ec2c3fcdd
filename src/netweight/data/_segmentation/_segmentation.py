"""Slices with masks: what segmentation is trained and judged on. One frozen noun, whatever files it came from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from netweight.errors import DataError


@dataclass(frozen=True, eq=False)
class Segmentation:
    """N slices of H x W pixels, each with a mask. The arrays cannot be written to.

    ``patients`` names for each slice what must never stand on both sides of a split: a patient, or the group of pictures that
    show one object. ``sha256`` is the hash of pixels, masks and ids, whatever file, order or folder they came from.
    ``test_only`` says why this data must not be split, ``note`` what its reader should know; both may be empty.
    """

    images: np.ndarray  # (N, H, W, 3) uint8
    masks: np.ndarray  # (N, H, W) bool
    patients: tuple[str, ...]  # N
    sites: tuple[str, ...]  # N; "" where unknown
    names: tuple[str, ...]  # N, all different
    source: str
    sha256: str
    phantom: bool = False
    test_only: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        _check(self)
        self.images.setflags(write=False)
        self.masks.setflags(write=False)

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def positive(self) -> np.ndarray:
        """(N,) bool: the slices whose mask holds at least one pixel."""
        return np.any(self.masks, axis=(1, 2)).reshape(len(self))

    @property
    def provenance(self) -> dict[str, Any]:
        """Plain data for a record: what this is and how much of it there is."""
        return {
            "source": self.source,
            "split": "",
            "sha256": self.sha256,
            "slices": len(self),
            "positive": int(self.positive.sum()),
            "patients": len(set(self.patients)),
            "size": list(self.images.shape[1:3]),
            "phantom": self.phantom,
        }


def from_arrays(
    images: np.ndarray,
    masks: np.ndarray,
    patients: Sequence[str],
    *,
    sites: Sequence[str] = (),
    names: Sequence[str] = (),
    source: str = "arrays given by the caller",
    phantom: bool = False,
    test_only: str = "",
    note: str = "",
) -> Segmentation:
    """Slices that lie in memory. The arrays become read-only.

    Args:
      images: (N, H, W, 3) uint8.
      masks: (N, H, W) bool.
      patients: one per slice.
      sites: one per slice; none means unknown.
      names: one per slice, all different; by default the patient and a running number.
    Raises: DataError: wrong shape or type, lengths that differ, a name given twice, a patient at two sites.
    """
    found_sites = tuple(sites) or ("",) * len(patients)
    found_names = tuple(names) or tuple(f"{patient}_{i:05d}" for i, patient in enumerate(patients))
    found = (images, masks, tuple(patients), found_sites, found_names)
    digest = _digest(*found) if _shape_fault(images, masks) == "" else ""
    return Segmentation(*found, source, digest, phantom, test_only, note)


def _check(data: Segmentation) -> None:
    if fault := _shape_fault(data.images, data.masks):
        raise DataError(f"{data.source}: {fault}")
    for field in ("patients", "sites", "names"):
        if len(getattr(data, field)) != len(data.images):
            raise DataError(f"{data.source}: {len(data.images)} slices, but {len(getattr(data, field))} {field}")
    if len(set(data.names)) != len(data.names):
        twice = next(name for name in data.names if data.names.count(name) > 1)
        raise DataError(f"{data.source}: two slices are called {twice!r}; names tell slices apart, so give others")
    place: dict[str, str] = {}
    for patient, site in zip(data.patients, data.sites, strict=True):
        if place.setdefault(patient, site) != site:
            raise DataError(f"{data.source}: patient {patient!r} is at two sites, {place[patient]!r} and {site!r}")


def _shape_fault(images: np.ndarray, masks: np.ndarray) -> str:
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        return f"images are {images.dtype} {images.shape}; needed: uint8 (N, H, W, 3)"
    if masks.dtype != np.bool_ or masks.shape != images.shape[:3]:
        return f"masks are {masks.dtype} {masks.shape}; needed: bool {images.shape[:3]}"
    return "" if images.size else "no slices at all"


def _digest(
    images: np.ndarray,
    masks: np.ndarray,
    patients: tuple[str, ...],
    sites: tuple[str, ...],
    names: tuple[str, ...],
) -> str:
    """Slice after slice in the order of patients and names, each with its ids before its pixels."""
    digest = hashlib.sha256()
    digest.update(json.dumps(images.shape[1:]).encode())
    for _, _, _, i in sorted(zip(patients, names, sites, range(len(names)), strict=False)):
        digest.update(json.dumps([patients[i], sites[i], names[i]]).encode())
        digest.update(np.ascontiguousarray(images[i]).data)
        digest.update(np.packbits(masks[i]).data)
    return digest.hexdigest()

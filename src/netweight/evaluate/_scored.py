"""One subject's probabilities beside the true masks, checked, and taken apart patient by patient.

Policy for masks without a positive pixel, the same in every metric of masks: a slice is never a unit of its own, so an empty
slice needs no rule. A patient without any positive pixel has no recall, Dice or lesion to find: it is left out of means over
patients and of recall, and counts wherever false positives do (precision, F2, pooled Dice and IoU, AUPRC, false lesions,
calibration). A claim's n says how many patients took part. Where no patient has a positive pixel, a quantity that needs one
is "unavailable", with the reason; no number is made up for it. Resamples in which this happens are left out and counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from netweight.errors import DataError, EvidenceError
from netweight.evaluate._items import Masked
from netweight.evaluate._regions import Lesions
from netweight.evaluate._samples import Sample, Unavailable

NO_POSITIVES = "no mask has a positive pixel: nothing could have been found or missed"


@dataclass(frozen=True, eq=False)
class Truth:
    """Masks, and which slices belong to which patient; patients in the order of their names."""

    masks_NHW: np.ndarray
    rows: Mapping[str, np.ndarray]

    @staticmethod
    def of(data: Masked) -> Truth:
        """Raises: DataError: masks that are not (N, H, W) bool, no slice, or patients that do not match them."""
        masks_NHW, source = data.masks_NHW, data.source
        if not isinstance(masks_NHW, np.ndarray) or masks_NHW.dtype != bool or masks_NHW.ndim != 3:
            kind = getattr(masks_NHW, "dtype", type(masks_NHW).__name__)
            raise DataError(
                f"{source}: masks are {kind} of shape {np.shape(masks_NHW)}; need bool (slices, height, width), such as masks > 0"
            )
        if masks_NHW.size == 0 or len(data.patients) != len(masks_NHW):
            raise DataError(
                f"{source}: masks of shape {masks_NHW.shape} and {len(data.patients)} patients, one a slice"
            )
        patients_N = np.asarray([str(patient) for patient in data.patients])
        return Truth(masks_NHW, {str(name): np.flatnonzero(patients_N == name) for name in np.unique(patients_N)})

    @cached_property
    def positive_P(self) -> np.ndarray:
        """(P,) bool: has the patient any positive pixel?"""
        return np.array([self.masks_NHW[rows].any() for rows in self.rows.values()])

    @cached_property
    def lesions(self) -> tuple[Lesions, ...]:
        """The components of each patient's masks."""
        return tuple(Lesions.of(self.masks_NHW[rows]) for rows in self.rows.values())

    @cached_property
    def counts(self) -> dict[str, int]:
        """Sizes worth recording with a claim."""
        return {
            "pixels": self.masks_NHW.size,
            "positive_pixels": int(self.masks_NHW.sum()),
            "patients_without_positives": int((~self.positive_P).sum()),
        }


@dataclass(frozen=True, eq=False)
class Scored:
    """What one subject says of every pixel, beside the truth that all subjects share."""

    probabilities_NHW: np.ndarray
    truth: Truth

    @staticmethod
    def of(subject: str, probabilities_NHW: np.ndarray, truth: Truth) -> Scored:
        """Raises: EvidenceError: another shape or kind than float32 beside the masks, NaN, or a value outside 0..1."""
        p = probabilities_NHW
        if not isinstance(p, np.ndarray) or p.dtype != np.float32 or p.shape != truth.masks_NHW.shape:
            kind = getattr(p, "dtype", type(p).__name__)
            raise EvidenceError(
                f"{subject}: probabilities are {kind} of shape {np.shape(p)}; need float32 of the masks' shape {truth.masks_NHW.shape}"
            )
        low, high = float(p.min()), float(p.max())
        if not (low >= 0 and high <= 1):  # also where one is NaN
            row = int(np.argmin(((p >= 0) & (p <= 1)).all((1, 2))))
            raise EvidenceError(f"{subject}: probabilities from {low:g} to {high:g}, first outside 0..1 in slice {row}")
        return Scored(p, truth)

    def patients(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Probabilities and mask, both (slices, height, width), of one patient after the other."""
        for rows in self.truth.rows.values():
            yield self.probabilities_NHW[rows], self.truth.masks_NHW[rows]


def unless(missing: str, sample: Sample) -> Sample:
    """The sample, or why there is none."""
    return Unavailable(missing) if missing else sample


def no_positives(truth: Truth) -> str:
    """Why quantities that need positives have no value here; "" where they have one."""
    return "" if truth.positive_P.any() else NO_POSITIVES


def truth_of(scored: Mapping[str, Scored]) -> Truth:
    """The truth that the subjects share."""
    return next(iter(scored.values())).truth


Found = dict[str, dict[str, Sample]]  # subject -> quantity -> sample

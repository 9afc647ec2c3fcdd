"""Calibration error of pixels: of those said to be lesion with 30 %, are 30 % lesion?

15 bins of equal width over the probability of a lesion, edges as in ``_calibration_error``; ECE = sum over bins of
|sum of probabilities - positives| / pixels, over all pixels of all patients. Most pixels are sure background and weigh as any other,
so the error is small for any subject that is silent where there is nothing: compare subjects, not the number with 0.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from netweight import settings as base
from netweight.evaluate._calibration_error import BINS, ece_of_sums
from netweight.evaluate._samples import Additive, Array
from netweight.evaluate._scored import Found, Scored
from netweight.evaluate._task import Quantity

SUMMARY = "calibration error of pixels' probabilities, 15 bins of equal width"
DATA = ("masks",)
QUANTITIES = (Quantity("pixel_ece", "fraction", "lower"),)


class Settings(base.Settings):
    """Nothing to choose."""


def of_masks(scored: Mapping[str, Scored], settings: Settings) -> Found:
    """The calibration error of every subject."""
    name = QUANTITIES[0].name
    return {
        subject: {name: Additive(_bins(one), ece_of_sums, "patients", one.truth.counts)}
        for subject, one in scored.items()
    }


def _bins(scored: Scored) -> Array:
    """(P, 2 * BINS): per bin, probabilities minus positives; then pixels."""
    rows = []
    for p, mask in scored.patients():
        sure = p.ravel().astype(np.float64)
        at = np.clip(np.ceil(sure * BINS).astype(np.int64) - 1, 0, BINS - 1)
        gap = np.bincount(at, sure, BINS) - np.bincount(at[mask.ravel()], minlength=BINS)
        rows.append(np.concatenate([gap, np.bincount(at, minlength=BINS)]))
    return np.array(rows, dtype=np.float64)

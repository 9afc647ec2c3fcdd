"""Lesions found, and components predicted where there is none, per slice.

A lesion is a connected component of the true mask of one slice (8-neighbourhood). It is found if at least the share ``found`` of
its pixels is predicted. A predicted component is false if none of its pixels lies in a true mask. Every patient's slices count
for false ones; lesions are those of the patients that have any (see ``_scored``).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from pydantic import Field

from netweight import settings as base
from netweight.evaluate._regions import apart
from netweight.evaluate._samples import Additive, Array, ratio
from netweight.evaluate._scored import Found, Scored, Truth, no_positives, truth_of, unless
from netweight.evaluate._task import Quantity

SUMMARY = "share of lesions found, and false lesions per slice"
DATA = ("masks",)
QUANTITIES = (
    Quantity("lesion_recall", "fraction", "higher"),
    Quantity("false_lesions_per_slice", "1", "lower"),
)


class Settings(base.Settings):
    threshold: float = Field(0.5, gt=0, le=1, description="least probability of a predicted pixel")
    found: float = Field(0.1, gt=0, le=1, description="share of a lesion's pixels that must be predicted")


def of_masks(scored: Mapping[str, Scored], settings: Settings) -> Found:
    """Both quantities of every subject."""
    truth = truth_of(scored)
    recall, false = (quantity.name for quantity in QUANTITIES)
    made: Found = {}
    for name, one in scored.items():
        lesions_P2, false_P2 = _counts(one, settings)
        counts = truth.counts | {"lesions": int(lesions_P2[:, 1].sum())}
        some = Additive(lesions_P2[truth.positive_P], ratio, "patients", counts)
        made[name] = {
            recall: unless(no_positives(truth), some),
            false: Additive(false_P2, ratio, "patients", _slices(truth)),
        }
    return made


def _slices(truth: Truth) -> dict[str, int]:
    return truth.counts | {"slices": len(truth.masks_NHW)}


def _counts(scored: Scored, settings: Settings) -> tuple[Array, Array]:
    """(P, 2) lesions found and lesions; (P, 2) false components and slices."""
    least = settings.found * (1 - 1e-12)
    found, false = [], []
    for lesions, (p, mask) in zip(scored.truth.lesions, scored.patients(), strict=True):
        predicted = p >= np.float32(settings.threshold)
        hits_C = lesions.hits(predicted[mask])
        found.append([int((hits_C >= least * lesions.sizes_C).sum()), len(hits_C)])
        false.append([apart(predicted, mask), len(mask)])
    return np.array(found, dtype=np.float64), np.array(false, dtype=np.float64)

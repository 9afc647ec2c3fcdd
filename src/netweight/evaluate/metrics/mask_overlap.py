"""Recall, precision, F2, Dice and IoU of predicted masks: pooled over all pixels, and as means over patients.

A pixel is predicted where its probability is at least the threshold. With TP, FP, FN counted over all pixels of all patients:
recall TP / (TP + FN), precision TP / (TP + FP), F2 = 5 TP / (5 TP + 4 FN + FP) = 5PR / (4P + R), Dice 2 TP / (2 TP + FP + FN),
IoU TP / (TP + FP + FN); soft Dice, without a threshold, is 2 sum(p m) / (sum p + sum m). A patient's own Dice, IoU and recall are
over that patient's whole stack of slices. Masks without positives: see ``_scored``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from pydantic import Field

from netweight import settings as base
from netweight.evaluate._samples import Additive, Array, Sample, ratio
from netweight.evaluate._scored import Found, Scored, no_positives, unless
from netweight.evaluate._task import Quantity

SUMMARY = "recall, precision, F2, Dice and IoU of predicted masks, pooled and per patient"
DATA = ("masks",)
POOLED = ("pixel_recall", "pixel_precision", "pixel_f2", "pixel_dice", "pixel_iou", "pixel_soft_dice")
PER_PATIENT = ("patient_recall", "patient_dice", "patient_iou")
QUANTITIES = tuple(Quantity(name, "fraction", "higher") for name in POOLED + PER_PATIENT)


class Settings(base.Settings):
    threshold: float = Field(0.5, gt=0, le=1, description="least probability of a predicted pixel")


def of_masks(scored: Mapping[str, Scored], settings: Settings) -> Found:
    """All quantities of every subject."""
    return {name: _samples(one, settings.threshold) for name, one in scored.items()}


def _samples(scored: Scored, threshold: float) -> dict[str, Sample]:
    counts_P3, soft_P3 = _sums(scored, threshold)
    has, counts, missing = scored.truth.positive_P, scored.truth.counts, no_positives(scored.truth)
    made: dict[str, Sample] = {}
    for name in POOLED:
        values_PK = soft_P3 if name == "pixel_soft_dice" else counts_P3[has] if name == "pixel_recall" else counts_P3
        nothing = "no pixel is predicted" if name == "pixel_precision" and not counts_P3[:, :2].any() else ""
        made[name] = unless(missing or nothing, Additive(values_PK, FORMULAS[name], "patients", counts))
    for name in PER_PATIENT:
        values_P = FORMULAS[name.replace("patient", "pixel")](counts_P3[has])
        made[name] = unless(
            missing, Additive(np.stack([values_P, np.ones_like(values_P)], 1), ratio, "patients", counts)
        )
    return made


def _sums(scored: Scored, threshold: float) -> tuple[Array, Array]:
    """(P, 3) true positives, false positives, false negatives; and (P, 3) sums of p m, of p, of m."""
    counts, soft = [], []
    for p, mask in scored.patients():
        found = p >= np.float32(threshold)
        hits, predicted, true = int((found & mask).sum()), int(found.sum()), int(mask.sum())
        counts.append([hits, predicted - hits, true - hits])
        soft.append([p[mask].sum(dtype=np.float64), p.sum(dtype=np.float64), true])
    return np.array(counts, dtype=np.float64), np.array(soft, dtype=np.float64)


def _share(top: Array, bottom: Array, positives: Array) -> Array:
    """Top over bottom; NaN where there is no positive, or nothing below."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(positives > 0, top / bottom, np.nan)


def _formula(hit: float, false: float, missed: float) -> Callable[[Array], Array]:
    """hit TP / (hit TP + false FP + missed FN)."""

    def of_sums(sums_RK: Array) -> Array:
        tp, fp, fn = sums_RK.T
        return _share(hit * tp, hit * tp + false * fp + missed * fn, tp + fn)

    return of_sums


def _soft(sums_RK: Array) -> Array:
    return _share(2 * sums_RK[:, 0], sums_RK[:, 1] + sums_RK[:, 2], sums_RK[:, 2])


FORMULAS: dict[str, Callable[[Array], Array]] = {
    "pixel_recall": _formula(1, 0, 1),
    "pixel_precision": _formula(1, 1, 0),
    "pixel_f2": _formula(5, 1, 4),
    "pixel_dice": _formula(2, 1, 1),
    "pixel_iou": _formula(1, 1, 1),
    "pixel_soft_dice": _soft,
}

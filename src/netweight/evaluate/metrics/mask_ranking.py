"""What needs no threshold: AUPRC, ROC-AUC, recall at a fixed false-positive rate and AUPRO, over pooled pixels.

Values are exact; their intervals rest on counts of each patient's scores on a fine grid: see ``_ranking``, also for the sources.
The false-positive rate is over all negative pixels of all patients. AUPRO is the area under the mean share found of each
lesion (connected component in a slice, every lesion alike whatever its size) up to a false-positive rate of ``pro_limit``, divided by it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from pydantic import Field

from netweight import settings as base
from netweight.evaluate import _ranking
from netweight.evaluate._ranking import Gridded, binned, edges, quantiles
from netweight.evaluate._samples import Array, Sample
from netweight.evaluate._scored import Found, Scored, no_positives, truth_of, unless
from netweight.evaluate._task import Quantity

SUMMARY = "AUPRC, ROC-AUC, recall at a fixed false-positive rate and AUPRO of pixels"
DATA = ("masks",)
QUANTITIES = tuple(Quantity(name, "fraction", "higher") for name in ("auprc", "roc_auc", "recall_at_fpr", "aupro"))
AUPRC, ROC_AUC, RECALL, AUPRO = (quantity.name for quantity in QUANTITIES)
NO_NEGATIVES = "every pixel of every mask is positive: there is no rate of false positives"


class Settings(base.Settings):
    fpr: float = Field(0.01, gt=0, lt=1, description="false-positive rate of recall_at_fpr")
    pro_limit: float = Field(0.3, gt=0, le=1, description="false-positive rate up to which AUPRO is taken")


@dataclass(frozen=True, eq=False)
class _Patient:
    """A patient's sorted scores, and for each positive one over its lesion's size."""

    positives: Array
    weights: Array
    negatives: Array
    lesions: int


def of_masks(scored: Mapping[str, Scored], settings: Settings) -> Found:
    """All quantities of every subject, on a grid of scores that they share and on one of its own."""
    truth = truth_of(scored)
    missing = {name: no_positives(truth) or _no_negatives(truth.counts) for name in (ROC_AUC, RECALL, AUPRO)}
    missing[AUPRC] = no_positives(truth)
    exact = {name: _exact(one, settings, missing) for name, one in scored.items()}
    shared = [edges([scores for _, scores in exact.values()])] if len(exact) > 1 else []
    return {
        name: _samples(one, settings, [edges([exact[name][1]]), *shared], exact[name][0], missing)
        for name, one in scored.items()
    }


def _no_negatives(counts: Mapping[str, int]) -> str:
    return NO_NEGATIVES if counts["pixels"] == counts["positive_pixels"] else ""


def _exact(scored: Scored, settings: Settings, missing: Mapping[str, str]) -> tuple[dict[str, float], Array]:
    """Values from all pixels sorted at once, and the quantiles for the grid."""
    mask, p = scored.truth.masks_NHW, scored.probabilities_NHW
    positives, negatives = np.sort(p[mask]), np.sort(p[~mask])
    found: dict[str, Callable[[], float]] = {
        AUPRC: lambda: _ranking.precision_area(positives, negatives),
        ROC_AUC: lambda: _ranking.curve_area(positives, _alike(positives), negatives, 1.0),
        RECALL: lambda: _ranking.recall_within(positives, negatives, settings.fpr),
        AUPRO: lambda: _aupro(scored, negatives, settings.pro_limit),
    }
    return {name: make() for name, make in found.items() if not missing[name]}, quantiles(positives, negatives)


def _alike(positives: Array) -> Array:
    return np.full(len(positives), 1 / len(positives))


def _aupro(scored: Scored, negatives: Array, limit: float) -> float:
    parts = list(_lesion_pixels(scored))
    positives, weights = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    order = np.argsort(positives)  # what is looked up in order is looked up fast
    lesions = sum(part[2] for part in parts)
    return _ranking.curve_area(positives[order], weights[order] / lesions, negatives, limit)


def _lesion_pixels(scored: Scored) -> Iterator[tuple[Array, Array, int]]:
    """Of each patient: scores of the positives, one over their lesion's size, and the number of lesions."""
    for lesions, (p, mask) in zip(scored.truth.lesions, scored.patients(), strict=True):
        yield p[mask], (1 / lesions.sizes_C)[lesions.labels_N], len(lesions.sizes_C)


def _patients(scored: Scored) -> Iterator[_Patient]:
    for (p, mask), (scores, weights, lesions) in zip(scored.patients(), _lesion_pixels(scored), strict=True):
        order = np.argsort(scores)
        yield _Patient(scores[order], weights[order], np.sort(p[~mask]), lesions)


def _samples(
    scored: Scored, settings: Settings, grids: Sequence[Array], exact: Mapping[str, float], missing: Mapping[str, str]
) -> dict[str, Sample]:
    """On the first grid; where there is a second, on that to be compared."""
    rows: list[list[tuple[Array, ...]]] = [[] for _ in grids]
    for patient in _patients(scored):
        for kept, grid in zip(rows, grids, strict=True):
            kept.append(_counted(patient, grid))
    alone, *shared = (_on_grid(kept, scored.truth.counts, settings, exact) for kept in rows)
    found = {name: replace(one, own=alone[name]) for name, one in shared[0].items()} if shared else alone
    return {name: unless(missing[name], one) for name, one in found.items()}


def _counted(patient: _Patient, grid: Array) -> tuple[Array, ...]:
    """Positives, negatives, weights of positives by bin, and the number of lesions."""
    positives, negatives = binned(patient.positives, grid), binned(patient.negatives, grid)
    return positives, negatives, binned(patient.positives, grid, patient.weights), np.array([patient.lesions])


def _on_grid(
    patients: Sequence[tuple[Array, ...]], known: Mapping[str, int], settings: Settings, exact: Mapping[str, float]
) -> dict[str, Gridded]:
    positives, negatives, weights, lesions = (np.array(part) for part in zip(*patients, strict=True))
    pixels_PK = np.concatenate([positives, negatives], 1)
    ones_PK = np.concatenate([positives, negatives, np.sum(positives, 1, keepdims=True)], 1)
    regions_PK = np.concatenate([weights, negatives, lesions], 1)
    forms = {
        AUPRC: (pixels_PK, _ranking.precision_area_of),
        ROC_AUC: (ones_PK, partial(_ranking.curve_area_of, limit=1.0)),
        RECALL: (pixels_PK, partial(_ranking.recall_within_of, rate=settings.fpr)),
        AUPRO: (regions_PK, partial(_ranking.curve_area_of, limit=settings.pro_limit)),
    }
    counts = {**known, "lesions": int(np.sum(lesions)), "bins": positives.shape[1]}
    return {
        name: Gridded(values, of_sums, "patients", counts, exact=exact.get(name, np.nan))
        for name, (values, of_sums) in forms.items()
    }

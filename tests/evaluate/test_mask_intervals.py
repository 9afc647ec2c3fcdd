"""Intervals of masks: the grid stands for all pixels, and patients, not pixels, are what varies."""

from __future__ import annotations

import numpy as np
import pytest

from evaluate.phantoms import phantom, scores
from netweight.evaluate import Masked, average_precision, roc_auc
from netweight.evaluate._scored import Scored, Truth
from netweight.evaluate._statistics import bca, resamples_of
from netweight.evaluate.metrics import mask_overlap, mask_ranking
from oracles import segmentation as oracle

QUANTITIES = [quantity.name for quantity in mask_ranking.QUANTITIES]


def samples(masks, patients, **probabilities):
    truth = Truth.of(Masked(None, masks, patients, "made up"))
    scored = {name: Scored.of(name, p, truth) for name, p in probabilities.items()}
    return mask_ranking.of_masks(scored, mask_ranking.Settings()), truth


def exact(p, masks) -> dict[str, float]:
    return {
        "auprc": average_precision(p, masks),
        "roc_auc": roc_auc(p, masks),
        "recall_at_fpr": oracle.recall_within(np.round(p, 2), masks, 0.01),
        "aupro": 0.0,
    }


def test_a_resample_on_the_grid_is_that_of_all_pixels():
    """12,288 scores without ties in 1,024 bins: what the grid misses is far below what patients vary."""
    p, masks, patients = phantom(patients=12, slices=4, noise=1.5, ties=False)
    found, truth = samples(masks, patients, net=p)
    rows = list(truth.rows.values())
    rng = np.random.default_rng(0)
    for _ in range(20):
        chosen = rng.integers(0, len(rows), len(rows))
        picked = np.concatenate([rows[i] for i in chosen])
        want = exact(p[picked], masks[picked])
        for name in ("auprc", "roc_auc"):
            assert found["net"][name].at(chosen[None])[0] == pytest.approx(want[name], abs=5e-4)


def test_recall_at_a_rate_and_regions_on_the_grid_follow_their_definitions():
    """Scores of two decimals: every distinct score has a bin of its own, so the grid misses only the step within a bin."""
    p, masks, patients = phantom(patients=6, noise=1.5)
    found, truth = samples(masks, patients, net=p)
    rows = list(truth.rows.values())
    for left_out in range(6):
        kept = np.concatenate([row for i, row in enumerate(rows) if i != left_out])
        want = oracle.aupro(p[kept], masks[kept], 0.3)
        assert found["net"]["aupro"].leave_one_out()[left_out] == pytest.approx(want, rel=1e-9)
        recall = oracle.recall_within(p[kept], masks[kept], 0.01)
        assert found["net"]["recall_at_fpr"].leave_one_out()[left_out] == pytest.approx(recall, abs=0.05)


def test_scores_that_hardly_differ_are_told_apart():
    """An untrained net: all probabilities within 1e-4 of one another. A grid of fixed width would see one tie."""
    p, masks, patients = phantom(ties=False)
    narrow = (0.5 + 1e-4 * p).astype(np.float32)
    found, _ = samples(masks, patients, net=narrow)
    assert abs(found["net"]["auprc"].shift) < 2e-3
    assert found["net"]["auprc"].value() == average_precision(narrow, masks) > 0.5


@pytest.mark.parametrize("name", QUANTITIES)
def test_swapping_all_patients_swaps_the_subjects(name):
    p, masks, patients = phantom(ties=False)
    found, truth = samples(masks, patients, a=p, b=scores(masks, seed=5, noise=3.0, ties=False))
    a, b = found["a"][name], found["b"][name]
    every, none = np.ones((1, len(truth.rows))), np.zeros((1, len(truth.rows)))
    assert a.swapped(b, every)[0] == pytest.approx(b.value(), abs=1e-12)
    assert a.swapped(b, none)[0] == pytest.approx(a.value(), abs=1e-12)
    half = (np.arange(len(truth.rows)) % 2)[None]
    mixed = p.copy()
    for i, rows in enumerate(truth.rows.values()):
        if half[0, i]:
            mixed[rows] = scores(masks, seed=5, noise=3.0, ties=False)[rows]
    if name in ("auprc", "roc_auc"):
        assert a.swapped(b, half)[0] == pytest.approx(exact(mixed, masks)[name], abs=2e-3)


def test_the_interval_over_patients_covers_the_truth_and_one_over_slices_would_not():
    """Patients differ in how hard they are. Truth: the pooled Dice of 4,000 patients. 40 patients, 150 studies: a share of
    .92 has a standard deviation of .022; slices of one patient are alike, so an interval over slices is much too narrow."""
    rng = np.random.default_rng(1)

    def draw(patients: int):
        masks = rng.random((patients, 4, 4, 4)) < 0.3
        hard = rng.uniform(0.0, 0.5, (patients, 1, 1, 1))
        wrong = rng.random(masks.shape) < hard
        return np.where(wrong, ~masks, masks).astype(np.float32).reshape(-1, 4, 4), masks.reshape(-1, 4, 4)

    p, m = draw(4000)
    truth = 2 * (p * m).sum() / (p.sum() + m.sum())
    hits = {"patients": 0, "slices": 0}
    for _ in range(150):
        p, m = draw(40)
        for unit, names in (("patients", np.repeat(np.arange(40), 4)), ("slices", np.arange(160))):
            found = Truth.of(Masked(None, m, [str(n) for n in names], "made up"))
            scored = {"net": Scored.of("net", p, found)}
            dice = mask_overlap.of_masks(scored, mask_overlap.Settings())["net"]["pixel_dice"]
            replicates = np.concatenate([dice.at(part) for part in resamples_of(dice.n, 200, rng)])
            interval = bca(dice.value(), replicates, dice.leave_one_out(), items=unit)
            hits[unit] += interval.low <= truth <= interval.high
    assert 0.86 <= hits["patients"] / 150 <= 0.99
    assert hits["slices"] / 150 < 0.8

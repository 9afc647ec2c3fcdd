"""Intervals of masks: the grid stands for all pixels, and patients, not pixels, are what varies."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from evaluate.phantoms import phantom, scores
from netweight.evaluate import Masked, average_precision, roc_auc, segmentation
from netweight.evaluate._scored import Scored, Truth
from netweight.evaluate._statistics import bca, resamples_of
from netweight.evaluate.metrics import mask_overlap, mask_ranking
from oracles import segmentation as oracle

QUANTITIES = [quantity.name for quantity in mask_ranking.QUANTITIES]


def samples(masks, patients, **probabilities):
    truth = Truth.of(Masked(None, masks, patients, "made up"))
    scored = {name: Scored.of(name, p, truth) for name, p in probabilities.items()}
    return mask_ranking.of_masks(scored, mask_ranking.Settings()), truth


def recall_between(p, masks, rate: float) -> float:
    """Recall at a rate of false positives on straight lines between all thresholds."""
    thresholds = sorted(set(p.ravel().tolist()), reverse=True)
    points = [((p[~masks] >= t).mean(), (p[masks] >= t).mean()) for t in thresholds]
    return float(np.interp(rate, *zip((0.0, 0.0), *points, strict=True)))


def test_a_resample_on_the_grid_is_that_of_all_pixels():
    """12,288 scores without ties in 1,024 bins: what the grid misses is far below what patients vary."""
    p, masks, patients = phantom(patients=12, slices=4, noise=1.5, ties=False)
    found, truth = samples(masks, patients, net=p)
    rows = list(truth.rows.values())
    rng = np.random.default_rng(0)
    for _ in range(20):
        chosen = rng.integers(0, len(rows), len(rows))
        picked = np.concatenate([rows[i] for i in chosen])
        for name, way in (("auprc", average_precision), ("roc_auc", roc_auc)):
            assert found["net"][name].at(chosen[None])[0] == pytest.approx(way(p[picked], masks[picked]), abs=5e-4)


def test_recall_at_a_rate_and_regions_on_the_grid_follow_their_definitions():
    """Scores of two decimals: every distinct score has a bin of its own, so the grid misses only the step within a bin."""
    p, masks, patients = phantom(patients=6, noise=1.5)
    found, truth = samples(masks, patients, net=p)
    rows = list(truth.rows.values())
    missed = oracle.recall_within(p, masks, 0.01) - recall_between(p, masks, 0.01)  # the grid is moved by it
    for left_out in range(6):
        kept = np.concatenate([row for i, row in enumerate(rows) if i != left_out])
        want = oracle.aupro(p[kept], masks[kept], 0.3)
        assert found["net"]["aupro"].leave_one_out()[left_out] == pytest.approx(want, rel=1e-9)
        recall = recall_between(p[kept], masks[kept], 0.01) + missed
        assert found["net"]["recall_at_fpr"].leave_one_out()[left_out] == pytest.approx(recall, rel=1e-9)


def test_a_rate_below_that_of_the_highest_score_lies_on_the_line_from_nothing():
    """Three levels: more negatives have the highest than the rate allows."""
    _, masks, patients = phantom(patients=6)
    p = np.random.default_rng(3).choice(np.float32([0.2, 0.5, 0.9]), masks.shape)
    found, _ = samples(masks, patients, net=p)
    recall = found["net"]["recall_at_fpr"]
    assert recall.value() == oracle.recall_within(p, masks, 0.01) == 0
    assert -recall.shift == pytest.approx(recall_between(p, masks, 0.01), rel=1e-9)
    assert recall.shift < 0
    drawn = recall.at(np.random.default_rng(4).integers(0, 6, (200, 6)))
    assert drawn.min() >= 0 and recall.leave_one_out().min() >= 0 and (recall.at(np.arange(6)[None]) == 0).all()


def test_scores_that_hardly_differ_are_told_apart():
    """An untrained net: all probabilities within 1e-4 of one another. A grid of fixed width would see one tie."""
    p, masks, patients = phantom(ties=False)
    narrow = (0.5 + 1e-4 * p).astype(np.float32)
    found, _ = samples(masks, patients, net=narrow)
    assert abs(found["net"]["auprc"].shift) < 2e-3
    assert found["net"]["auprc"].value() == average_precision(narrow, masks) > 0.5


@pytest.mark.parametrize("name", QUANTITIES)
def test_swapping_all_patients_swaps_the_subjects(name):
    """Scores of two decimals, so that a mixture is on the grid what it is without, but for the recall's steps."""
    p, masks, patients = phantom()
    others = scores(masks, seed=5, noise=3.0)
    found, truth = samples(masks, patients, a=p, b=others)
    a, b = found["a"][name], found["b"][name]
    every, none = np.ones((1, len(truth.rows))), np.zeros((1, len(truth.rows)))
    assert a.swapped(b, every)[0] == pytest.approx(b.value(), abs=1e-12)
    assert a.swapped(b, none)[0] == pytest.approx(a.value(), abs=1e-12)
    half = (np.arange(len(truth.rows)) % 2)[None]
    mixed = p.copy()
    for i, rows in enumerate(truth.rows.values()):
        if half[0, i]:
            mixed[rows] = others[rows]
    ways = {
        "auprc": oracle.average_precision, "roc_auc": oracle.roc_auc,
        "recall_at_fpr": partial(recall_between, rate=0.01), "aupro": partial(oracle.aupro, limit=0.3),
    }  # fmt: skip
    moved = (a.shift + b.shift) / 2
    assert a.swapped(b, half)[0] == pytest.approx(ways[name](mixed, masks) + moved, rel=1e-9)
    assert name == "recall_at_fpr" or abs(moved) < 1e-12


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


@pytest.mark.parametrize("noise", [0.5, 2.0])
def test_an_interval_is_the_same_whoever_is_judged_beside(noise):
    p, masks, patients = phantom(patients=4, slices=3, noise=1.5, ties=False)
    other = scores(masks, noise=noise, seed=7)
    alone = segmentation({"net": p}, masks, patients, source="made up", split="test")
    paired = segmentation(
        {"net": p, "other": other}, masks, patients, reference="other", source="made up", split="test"
    )
    own = {claim.metric: claim for claim in paired if claim.subject == "net"}
    for claim in alone:
        beside = own[claim.metric]
        assert (claim.value, claim.low, claim.high, claim.data) == (beside.value, beside.low, beside.high, beside.data)
        assert beside.comparison is not None and claim.comparison is None
    # while both lie on one grid for the comparison
    found, _ = samples(masks, patients, net=p, other=other)
    one, two = found["net"]["auprc"], found["other"]["auprc"]
    assert one.values_NK.shape == two.values_NK.shape and one.alone() is not one
    assert samples(masks, patients, net=p)[0]["net"]["auprc"].own is None

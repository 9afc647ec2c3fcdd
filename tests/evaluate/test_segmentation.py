"""Metrics of masks: equal to their definitions, and what happens to masks without positives."""

from __future__ import annotations

import dataclasses
import math
import re

import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from evaluate.phantoms import phantom, scores
from netweight.errors import DataError, EvidenceError, SettingsError
from netweight.evaluate import Masked, Subject, average_precision, mask_metrics, roc_auc, run, segmentation, task
from netweight.evaluate._calibration_error import bin_sums
from netweight.evaluate._regions import components
from netweight.evaluate._scored import Scored, Truth
from netweight.evaluate.metrics import mask_calibration
from oracles import segmentation as oracle

NAMES = (
    "aupro", "auprc", "false_lesions_per_slice", "lesion_recall", "patient_dice", "patient_iou", "patient_recall",
    "pixel_dice", "pixel_ece", "pixel_f2", "pixel_iou", "pixel_precision", "pixel_recall", "pixel_soft_dice", "recall_at_fpr", "roc_auc",
)  # fmt: skip


def judged(probabilities, masks, patients, **options):
    """Claims by quantity of one subject."""
    options = {"resamples": 200, "environment": {}} | options
    return {claim.metric: claim for claim in segmentation({"net": probabilities}, masks, patients, **options)}


def defined(p, masks, patients) -> dict[str, float]:
    """Every quantity by the loops of the oracle."""
    want = {
        "auprc": oracle.average_precision(p, masks),
        "pixel_ece": oracle.calibration_error(p, masks),
    }
    if not masks.all():
        want["roc_auc"] = oracle.roc_auc(p, masks)
        want["recall_at_fpr"] = oracle.recall_within(p, masks, 0.01)
        want["aupro"] = oracle.aupro(p, masks, 0.3)
    want |= {f"pixel_{name}": value for name, value in oracle.overlaps(p, masks, 0.5).items()}
    owners = np.array(patients)
    sick = [name for name in sorted(set(patients)) if masks[owners == name].any()]
    own = [oracle.overlaps(p[owners == name], masks[owners == name], 0.5) for name in sick]
    want |= {f"patient_{name}": np.mean([row[name] for row in own]) for name in ("recall", "dice", "iou")}
    hits, count, false = oracle.lesions(p, masks, 0.5, 0.1)
    return want | {"lesion_recall": hits / count, "false_lesions_per_slice": false / len(masks)}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("ties", [True, False])
def test_every_value_equals_its_definition(seed, ties):
    p, masks, patients = phantom(6 if ties else 3, seed=seed, ties=ties)
    found = {name: claim.value for name, claim in judged(p, masks, patients).items()}
    assert set(found) == set(NAMES)
    assert found == pytest.approx(defined(p, masks, patients), rel=1e-9)  # sums of at most 4,608 float64 terms


LEVELS = {"constant": [0.5], "two": [0.0, 1.0], "three": [0.25, 0.5, 0.75], "fifteenths": [k / 15 for k in range(16)]}


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("share", [0.02, 0.3, 0.95])
def test_scores_of_few_levels_and_masks_of_noise_equal_their_definitions(levels, share):
    """Almost everything is tied; components touch at corners, fill a slice, or are single pixels; a patient may have none."""
    rng = np.random.default_rng(int(100 * share))
    masks = rng.random((6, 9, 11)) < share
    masks[2] = False
    p = rng.choice(np.array(LEVELS[levels], np.float32), masks.shape)
    p[masks & (rng.random(masks.shape) < 0.5)] = LEVELS[levels][-1]  # not without all skill
    patients = ["a", "a", "b", "c", "c", "c"]
    found = {name: claim.value for name, claim in judged(p, masks, patients).items()}
    assert found == pytest.approx(defined(p, masks, patients), rel=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_masks_that_are_all_positive_equal_their_definitions_where_they_have_one(seed):
    rng = np.random.default_rng(seed)
    p, masks = rng.choice(np.float32([0.1, 0.5, 0.9]), (3, 5, 6)), np.ones((3, 5, 6), bool)
    found = {name: claim.value for name, claim in judged(p, masks, ["a", "b", "b"]).items()}
    missing = {name for name, value in found.items() if value is None}
    assert missing == {"roc_auc", "recall_at_fpr", "aupro"}
    assert {name: found[name] for name in found if name not in missing} == pytest.approx(
        defined(p, masks, ["a", "b", "b"]), rel=1e-9
    )


@pytest.mark.parametrize("seed", range(5))
def test_areas_of_plain_arrays_agree_with_other_authorities(seed):
    rng = np.random.default_rng(seed)
    values, labels = rng.integers(0, 12, 300).astype(np.float32), rng.random(300) < 0.2
    values[labels] += 2
    u = stats.mannwhitneyu(values[labels], values[~labels]).statistic
    assert roc_auc(values, labels) == pytest.approx(u / (labels.sum() * (~labels).sum()), rel=1e-12)
    assert average_precision(values, labels) == pytest.approx(oracle.average_precision(values, labels), rel=1e-12)


def test_known_answers():
    """Ranked + - + -: precision 1 at half of the recall, 2/3 at all of it; one of four pairs is in the wrong order."""
    values, labels = np.array([0.9, 0.8, 0.7, 0.1]), np.array([True, False, True, False])
    assert average_precision(values, labels) == pytest.approx(0.5 + 0.5 * 2 / 3)
    assert roc_auc(values, labels) == 0.75
    assert average_precision(np.ones(10), np.arange(10) < 3) == pytest.approx(0.3)  # all tied: the share of positives
    _, masks, patients = phantom()
    perfect = judged(masks.astype(np.float32), masks, patients)
    assert {name: claim.value for name, claim in perfect.items()} == pytest.approx(
        {name: 0.0 if name in ("pixel_ece", "false_lesions_per_slice") else 1.0 for name in NAMES}
    )


def test_a_lesion_is_found_by_the_stated_share_of_its_pixels_and_a_component_is_false_if_it_touches_none():
    masks = np.zeros((1, 8, 8), bool)
    masks[0, 1, 1:5] = True  # four pixels, two of them predicted
    p = np.zeros((1, 8, 8), np.float32)
    p[0, 1, 3:7] = 0.5  # a threshold is reached by equality; touches the lesion, so it is not false
    p[0, 6, 6] = p[0, 5, 5] = 0.9  # joined by their corners: one component
    for share, found in ((0.5, 1.0), (0.51, 0.0)):
        claims = judged(p, masks, ["a"], metrics={"mask_lesions": {"found": share}})
        assert claims["lesion_recall"].value == found
        assert claims["false_lesions_per_slice"].value == 1.0
        assert claims["lesion_recall"].settings["found"] == share


def test_components_are_those_of_each_slice_by_itself():
    rng = np.random.default_rng(0)
    stack = rng.random((5, 20, 20)) < 0.3
    labels, count = components(stack)
    each = [ndimage.label(mask, np.ones((3, 3))) for mask in stack]
    assert count == sum(n for _, n in each)
    for one, (whole, n) in zip(labels, each, strict=True):
        pairs = set(zip(one.ravel().tolist(), whole.ravel().tolist(), strict=True))
        assert len(pairs) == n + 1  # a renaming of labels, 0 to 0


def test_pixels_are_binned_as_all_other_calibration_errors_are():
    p, masks, _ = phantom()
    p.ravel()[:4] = [0, 1, 1 / 15, 2 / 15]
    data = Masked(None, masks, ["one"] * len(masks), "made up")
    (row,) = mask_calibration._bins(Scored.of("net", p, Truth.of(data)))
    want = bin_sums(torch.from_numpy(p.ravel()), torch.from_numpy(masks.ravel())).sum(0).numpy()
    np.testing.assert_allclose(row, want, atol=1e-9)


# masks without positives


def test_a_patient_without_positives_counts_for_false_positives_only_and_n_says_so():
    p, masks, patients = phantom(patients=6)  # p2 and p5 have no lesion
    found = judged(p, masks, patients)
    for name, claim in found.items():
        only_sick = name.startswith("patient_") or name in ("pixel_recall", "lesion_recall")
        assert claim.n == (4 if only_sick else 6), name
        assert claim.data["patients_without_positives"] == 2
    louder = p.copy()
    louder[[n for n, name in enumerate(patients) if name == "p2"]] = 0.99
    changed = {name for name, claim in judged(louder, masks, patients).items() if claim.value != found[name].value}
    same = {"patient_recall", "patient_dice", "patient_iou", "pixel_recall", "lesion_recall"}
    assert changed == set(NAMES) - same


def test_without_any_positive_what_needs_one_is_unavailable_and_false_positives_are_still_counted():
    p, masks, patients = phantom()
    found = judged(p, np.zeros_like(masks), patients)
    known = {name for name, claim in found.items() if claim.provenance == "measured"}
    assert known == {"false_lesions_per_slice", "pixel_ece"}
    assert found["auprc"].value is None and "no mask has a positive pixel" in found["auprc"].note


def test_a_subject_that_predicts_nothing_has_recall_0_and_no_precision():
    p, masks, patients = phantom()
    silent = np.zeros_like(p)
    claims = segmentation({"good": p, "silent": silent}, masks, patients, reference="good", resamples=200)
    found = {claim.metric: claim for claim in claims if claim.subject == "silent"}
    assert found["pixel_recall"].value == found["pixel_f2"].value == found["patient_dice"].value == 0
    assert found["pixel_precision"].value is None and "no pixel is predicted" in found["pixel_precision"].note
    assert found["auprc"].value == pytest.approx(masks.mean())
    assert found["pixel_recall"].comparison is not None and found["pixel_recall"].comparison.high < 0


def test_masks_that_are_all_positive_have_no_false_positive_rate():
    found = judged(np.full((2, 4, 4), 0.5, np.float32), np.ones((2, 4, 4), bool), ["a", "b"])
    assert found["auprc"].value == 1.0
    assert {name for name, claim in found.items() if claim.value is None} == {"roc_auc", "recall_at_fpr", "aupro"}


# invariance


def test_the_order_of_slices_and_patients_changes_no_claim():
    p, masks, patients = phantom(patients=7)
    order = np.random.default_rng(0).permutation(len(masks))
    for name, claim in judged(p, masks, patients).items():
        other = judged(p[order], masks[order], [patients[n] for n in order])[name]
        assert dataclasses.asdict(claim)["n"] == other.n
        for a, b in ((claim.value, other.value), (claim.low, other.low), (claim.high, other.high)):
            assert math.isclose(a, b, rel_tol=1e-12, abs_tol=1e-12), name


def test_a_subject_that_is_called_gives_the_claims_of_its_probabilities():
    _, masks, patients = phantom()
    images = torch.randn(len(masks), 3, 16, 16, generator=torch.Generator().manual_seed(0))
    net = Subject("net", "sha", segment=lambda x: x[:, :1] + x[:, 1:2])
    p = torch.sigmoid(images[:, 0] + images[:, 1]).numpy()
    data = Masked(images, masks, patients, "made up")
    tasks = [task(name, data) for name in mask_metrics()]
    calls = []
    called = run([net], tasks=tasks, batch_size=5, resamples=200, progress=lambda *told: calls.append(told))
    assert [(c.metric, c.value, c.low) for c in called] == [
        (c.metric, c.value, c.low) for c in judged(p, masks, patients).values()
    ]
    assert len(calls) == -(-len(masks) // 5)  # one pass for all metrics


# pairs


def test_subjects_are_paired_by_patient_and_the_ratio_has_an_interval():
    good, masks, patients = phantom(patients=12, noise=0.5)
    bad = scores(masks, seed=9, noise=2.0)
    claims = segmentation(
        {"bad": bad, "good": good}, masks, patients, reference="good", ratios=["auprc", "pixel_recall"],
        margins={"auprc": 0.01}, resamples=400,
    )  # fmt: skip
    found = {(claim.subject, claim.metric): claim for claim in claims}
    auprc, ratio = found["bad", "auprc"], found["bad", "auprc_ratio"]
    assert auprc.comparison is not None and auprc.comparison.verdict == "inferior"
    assert auprc.comparison.p_value is not None and auprc.comparison.p_value < 0.05
    base = found["good", "auprc"]
    assert ratio.value == pytest.approx(auprc.value / base.value) and ratio.low < ratio.value < ratio.high < 1
    assert ("good", "auprc_ratio") not in found and ("bad", "pixel_recall_ratio") in found
    same = segmentation({"a": good, "b": good}, masks, patients, reference="a", ratios=["auprc"], resamples=200)
    (one,) = [claim for claim in same if claim.metric == "auprc_ratio"]
    assert (one.value, one.low, one.high) == (1.0, 1.0, 1.0)


# bad input


@pytest.mark.parametrize(
    "change, error, said",
    [
        ({"p": np.zeros((2, 4, 5), np.float32)}, EvidenceError, "net: probabilities are float32 of shape (2, 4, 5)"),
        ({"p": np.zeros((2, 4, 4))}, EvidenceError, "need float32"),
        ({"p": np.full((2, 4, 4), np.nan, np.float32)}, EvidenceError, "first outside 0..1 in slice 0"),
        ({"p": np.full((2, 4, 4), 1.5, np.float32)}, EvidenceError, "probabilities from 1.5 to 1.5"),
        ({"masks": np.zeros((2, 4, 4), np.uint8)}, DataError, "need bool (slices, height, width), such as masks > 0"),
        ({"masks": np.zeros((0, 4, 4), bool), "patients": []}, DataError, "masks of shape (0, 4, 4)"),
        ({"patients": ["a"]}, DataError, "1 patients, one a slice"),
        ({"metrics": {"bytes": {}}}, DataError, "bytes measures on none"),
        ({"metrics": {"latency": {}}}, DataError, "latency needs more than probabilities"),
        ({"metrics": {"mask_overlap": {"treshold": 0.5}}}, SettingsError, "did you mean 'threshold'"),
        ({"ratios": ["auprc"]}, SettingsError, "pass reference="),
        ({"ratios": ["pixel_dise"], "reference": "net"}, SettingsError, "did you mean 'pixel_dice'"),
    ],
)
def test_what_is_wrong_is_said(change, error, said):
    given = {"p": np.zeros((2, 4, 4), np.float32), "masks": np.ones((2, 4, 4), bool), "patients": ["a", "b"]} | change
    with pytest.raises(error, match=re.escape(said)):
        judged(given.pop("p"), given.pop("masks"), given.pop("patients"), **given)


@pytest.mark.parametrize(
    "segment, images, said",
    [
        (lambda x: x[:, 0], 4, "need \\(4, 1, 6, 6\\)"),
        (lambda x: x[:, :1] / 0, 4, "net: .* at slice"),
        (lambda x: x[:, :1], 3, "3 images and 4 masks"),
        (None, 4, "has no 'segment' callable"),
        (lambda x: x[:, :1], None, "masks but no images"),
    ],
)
def test_a_subject_or_images_that_do_not_fit_are_refused(segment, images, said):
    pixels = None if images is None else torch.ones(images, 3, 6, 6)
    data = Masked(pixels, np.zeros((4, 6, 6), bool), list("abcd"), "made up")
    with pytest.raises((DataError, EvidenceError, SettingsError), match=said):
        run([Subject("net", "sha", segment=segment)], tasks=[task("mask_overlap", data)], resamples=200)


def test_plain_arrays_without_a_ranking_are_refused():
    for values, labels, said in (
        (np.array([1.0, np.nan]), np.array([True, False]), "NaN"),
        (np.ones(3), np.zeros(3, bool), "none of 3 labels"),
        (np.ones(3), np.ones(2, bool), "shape"),
    ):
        with pytest.raises(DataError, match=said):
            average_precision(values, labels)
    with pytest.raises(DataError, match="needs a negative"):
        roc_auc(np.ones(3), np.ones(3, bool))

"""Pictures of slices: what counts as found, missed and false, which slices are chosen, and what is drawn."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from netweight.evidence._overlay import FALSE, MISSED, MOST, PREDICTED, WHITE, gallery, marked, png
from oracles.segmentation import components


@pytest.mark.parametrize("seed", range(12))
def test_lesions_are_found_missed_and_made_up_as_flooding_says(seed: int):
    random = np.random.default_rng(seed)
    mask, said = random.random((24, 24)) < 0.15, random.random((24, 24)) < 0.08
    marks = marked(said.astype(np.float32), mask)
    lesions, spoken = components(mask), components(said)
    found = [lesion for lesion in lesions if sum(said[p] for p in lesion) >= 0.1 * len(lesion)]
    false = [patch for patch in spoken if not any(mask[p] for p in patch)]
    assert (marks.found, marks.missed, marks.false) == (len(found), len(lesions) - len(found), len(false))
    assert {(int(y), int(x)) for y, x in np.argwhere(marks.hit_HW)} == set().union(*found)
    assert {(int(y), int(x)) for y, x in np.argwhere(marks.false_HW)} == set().union(*false)
    assert ((marks.hit_HW | marks.missed_HW) == mask).all() and not (marks.hit_HW & marks.missed_HW).any()
    assert ((marks.predicted_HW | marks.false_HW) == said).all()
    assert marks.dice == pytest.approx(2 * (mask & said).sum() / (mask.sum() + said.sum()))


def test_a_tenth_of_a_lesion_is_enough_and_half_a_probability_is_predicted():
    mask = np.zeros((8, 30), dtype=bool)
    mask[2:4, 5:25] = True  # 40 pixels
    p = np.where(mask, np.float32(0.4999), np.float32(0))
    p[2, 5:8] = 0.5
    assert (marked(p, mask).found, marked(p, mask).missed) == (0, 1)
    p[2, 8] = 0.5
    assert marked(p, mask).found == 1


def case() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Four slices: a lesion found, one missed, a larger one missed, an alarm where there is nothing."""
    masks, said = np.zeros((4, 32, 32), dtype=bool), np.zeros((4, 32, 32), np.float32)
    masks[0, 4:10, 4:10] = said[0, 4:10, 4:9] = 1
    masks[1, 4:8, 4:8] = 1
    masks[2, 4:12, 4:12] = 1
    said[3, 20:26, 20:26] = 1
    return said, np.full((4, 32, 32, 3), 120, np.uint8), masks


def test_slices_are_chosen_by_the_stated_rule():
    said, images, masks = case()
    shown = gallery({"a": said}, images, masks, list("wxyz"), list("PPQQ"))
    assert [(p.name, p.patient, p.why) for p in shown.pictures] == [
        ("y", "Q", "most missed"), ("x", "P", "most missed"), ("w", "P", "best found"), ("z", "Q", "most false pixels"),
    ]  # fmt: skip
    assert shown.nothing == () and shown.slices == 4
    assert shown.pictures[0].panels[0].words == "1 lesion: 0 found, 1 missed (64 pixels); 0 false alarms"
    assert shown.pictures[3].panels[0].words == "no lesion; 1 false alarm (36 pixels)"


def test_a_slice_that_one_run_gets_wrong_is_shown_for_all():
    said, images, masks = case()
    silent = np.zeros_like(said)
    shown = gallery({"a": said, "b": silent}, images, masks, list("wxyz"), list("PPQQ"))
    assert [p.why for p in shown.pictures if p.name == "y"] == ["most missed by a and b"]
    assert all([panel.heading for panel in p.panels] == ["a", "b"] for p in shown.pictures)
    assert len(shown.pictures) <= MOST


def test_a_rule_that_no_slice_fits_is_said():
    _, images, masks = case()
    shown = gallery({"a": masks.astype(np.float32)}, images, masks, list("wxyz"), list("PPQQ"))
    assert shown.nothing == (("most missed", "no lesion was missed"), ("most false pixels", "there was no false alarm"))


def test_many_small_false_alarms_outrank_one_that_is_larger_than_each_of_them():
    said, images, masks = case()
    said[0, 13:32:2, 1:32:2] = 1  # 160 alarms of one pixel
    shown = gallery({"a": said}, images, masks, list("wxyz"), list("PPQQ"))
    false = next(p for p in shown.pictures if "most false pixels" in p.why)
    assert false.name == "w" and "160 false alarms (160 pixels)" in false.panels[0].words


def test_lesions_that_were_all_found_beside_false_alarms_contradict_no_sentence():
    said, images, masks = case()
    said = np.where(masks, np.float32(1), said)
    said[:, 28:30, 28:30] = 1
    shown = gallery({"a": said}, images, masks, list("wxyz"), list("PPQQ"))
    assert shown.nothing == (
        ("most missed", "no lesion was missed"),
        ("best found", "there is none with lesions that were all found without a false alarm"),
    )


def colours(address: str) -> tuple[set[tuple[int, ...]], tuple[int, int], bytes]:
    data = base64.b64decode(address.removeprefix("data:image/png;base64,"))
    picture = Image.open(io.BytesIO(data))
    return {colour for _, colour in picture.getcolors(1 << 20) or []}, picture.size, data  # pyright: ignore[reportReturnType]


def test_marks_are_drawn_over_grey_in_colours_and_forms_of_their_own():
    said, images, masks = case()
    plain, *_ = colours(png(images[0], marked(np.zeros((32, 32), np.float32), np.zeros((32, 32), dtype=bool))))
    assert all(r == g == b for r, g, b in plain)
    hit, size, data = colours(png(images[0], marked(said[0], masks[0])))
    assert size == (256, 256) and WHITE in hit and not {MISSED, FALSE} & hit
    assert any(b > g > r for r, g, b in hit), "predicted pixels are tinted"
    missed, *_ = colours(png(images[1], marked(said[1], masks[1])))
    assert MISSED in missed and not {WHITE, FALSE} & missed
    false, *_ = colours(png(images[3], marked(said[3], masks[3])))
    assert FALSE in false and not {WHITE, MISSED} & false
    assert colours(png(images[0], marked(said[0], masks[0])))[2] == data, "the same bytes every time"


@pytest.mark.parametrize("one, other", [(WHITE, MISSED), (WHITE, PREDICTED), (MISSED, FALSE), (PREDICTED, MISSED), (PREDICTED, FALSE)])  # fmt: skip
def test_colours_differ_for_readers_who_see_no_red_or_no_green(one, other):
    """Viénot et al. 1999: what is left of a colour without the long or without the middle cones."""
    for kept in (((0.11238, 0.88762, 0), (0.11238, 0.88762, 0), (0.004, -0.004, 1)), ((0.29275, 0.70725, 0), (0.29275, 0.70725, 0), (-0.02234, 0.02234, 1))):  # fmt: skip
        seen = [np.array(kept) @ (np.array(colour) / 255) ** 2.2 for colour in (one, other)]
        assert np.abs(seen[0] - seen[1]).max() > 0.15

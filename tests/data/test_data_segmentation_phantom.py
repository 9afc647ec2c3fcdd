"""Phantoms are what they are asked to be, and the same every time."""

from __future__ import annotations

import numpy as np
import pytest

from netweight import data
from netweight.data import PhantomSettings
from netweight.errors import SettingsError


def phantoms(size=64, seed=0, **changes):
    return data.phantom(PhantomSettings(patients=6, slices=5, **changes), size=size, seed=seed)


def test_phantoms_are_labelled_and_have_the_shape_asked_for():
    found = data.segmentation("phantom:7x4", size=32, seed=3)
    assert found.phantom and found.source == "phantom" and found.provenance["phantom"]
    assert found.images.shape == (28, 32, 32, 3) and len(set(found.patients)) == 7
    assert set(found.sites) == {"A", "B", "C"} and found.patients[0] == "phantom-3-A-0000"
    assert data.segmentation("phantom:1x1").images.shape == (1, 128, 128, 3)


def test_a_seed_gives_the_same_bytes_and_another_gives_others():
    first, again, other = phantoms(seed=1), phantoms(seed=1), phantoms(seed=2)
    assert first.sha256 == again.sha256 and (first.images == again.images).all()
    assert first.sha256 != other.sha256 and (first.images[0] != other.images[0]).mean() > 0.2


def test_another_seed_gives_other_patients_under_other_names():
    first, other = (data.segmentation(f"phantom:3x2,seed={seed}", size=32) for seed in (0, 7))
    assert set(first.patients).isdisjoint(other.patients) and not (first.images == other.images).all()
    assert (other.images == data.segmentation("phantom:3x2", size=32, seed=7).images).all()


def test_a_patient_does_not_depend_on_how_many_there_are():
    few, many = (data.segmentation(f"phantom:{n}x3", size=48, seed=9) for n in (3, 8))
    same = [many.names.index(name) for name in few.names]
    assert (few.images == many.images[same]).all() and (few.masks == many.masks[same]).all()


@pytest.mark.parametrize("contrast", [0.05, 0.2, 0.4])
def test_a_lesion_is_as_much_brighter_as_asked_and_nothing_else_changes(contrast):
    plain, marked = phantoms(contrast=0.0), phantoms(contrast=contrast)
    assert (plain.masks == marked.masks).all()
    change = marked.images[..., 1].astype(int) - plain.images[..., 1]
    assert (change[~marked.masks] == 0).all()
    unclipped = marked.masks & (marked.images[..., 1] < 255)
    assert abs(change[unclipped] - 255 * contrast).max() <= 1  # both are rounded
    assert unclipped.sum() > 0.9 * marked.masks.sum()


@pytest.mark.parametrize("diameter", [0.1, 0.25, 0.5])
def test_a_lesion_is_as_wide_as_asked_at_its_widest(diameter):
    found = phantoms(size=128, diameter=diameter, without=0.0)
    for patient in set(found.patients):
        masks = found.masks[[i for i, name in enumerate(found.patients) if name == patient]]
        widest = max(int(masks.any(axis=(0, axis)).sum()) for axis in (1, 2))
        assert abs(widest - 128 * diameter) <= 2  # pixels count by their centres
        assert not masks[0].any() or not masks[-1].any()  # some slices have none


@pytest.mark.parametrize("without", [0.0, 0.25, 0.5])
def test_the_share_of_patients_without_a_lesion_is_kept_at_every_site(without):
    found = data.phantom(PhantomSettings(patients=48, slices=3, without=without), size=16)
    marked = {patient for patient, positive in zip(found.patients, found.positive, strict=True) if positive}
    for site in "ABC":
        there = {patient for patient in set(found.patients) if f"-{site}-" in patient}
        assert len(there - marked) == pytest.approx(16 * without, abs=1)


def test_the_picture_is_a_head_on_black_with_structure():
    found = phantoms(size=128)
    corner = found.images[:, :8, :8].astype(float)
    middle = found.images[:, 40:88, 40:88].astype(float)
    assert corner.mean() < 15 < 70 < middle.mean()
    assert middle[..., 1].std() > 10
    assert len({image.tobytes() for image in found.images}) == len(found)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("phantom:40", "'40' is neither <patients>x<slices> nor"),
        ("phantom:axb", "'axb' is neither"),
        ("phantom:³x6", "'³x6' is neither"),
        ("phantom:3x٦", "'3x٦' is neither"),
        ("phantom:3x" + "9" * 5000, "is not a number"),
        ("phantom:patients=³", "'³' is not a number"),
        ("phantom:4x4,contrst=0.2", "'contrst' is not a setting; did you mean 'contrast'"),
        ("phantom:contrast=much", "'much' is not a number"),
        ("phantom:contrast=0.9", "'?contrast'? = 0.9"),
        ("phantom:0x4", "'?patients'? = 0"),
        ("phantom:patients=2.5", "'?patients'? = 2.5"),
    ],
)
def test_settings_that_are_not_are_said(text, message):
    with pytest.raises(SettingsError, match=message):
        data.segmentation(text)


def test_settings_are_read_from_the_name():
    found = data.segmentation("phantom:3x2,contrast=0,sites=1", size=16)
    assert set(found.sites) == {"A"} and len(found) == 6
    assert np.array_equal(
        found.images, data.segmentation("phantom:slices=2,patients=3,contrast=0,sites=1", size=16).images
    )

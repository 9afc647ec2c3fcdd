"""NIfTI volumes, read by nibabel where it is installed, and what is said where it is not."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from netweight import data
from netweight.errors import DataError

RANDOM = np.random.default_rng(2)


def volumes(folder, patient="TCGA_HT_0001_2001", *, mask=None, image=None, turned=False):
    nibabel = pytest.importorskip("nibabel", reason="nibabel (the extra nifti) is not installed")
    image = RANDOM.integers(0, 900, (8, 10, 3)).astype(np.float32) if image is None else image
    mask = (RANDOM.random((8, 10, 3)) < 0.3).astype(np.uint8) if mask is None else mask
    (folder / patient).mkdir(parents=True)
    affine = np.diag([-1.0, -1.0, 1.0, 1.0] if turned else [1.0, 1.0, 1.0, 1.0])
    for name, values in (("flair", image), ("flair_mask", mask)):
        stored = values[::-1, ::-1] if turned else values
        nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(stored), affine), folder / patient / f"{name}.nii.gz")
    return image, mask


def test_volumes_are_cut_across_their_third_axis(tmp_path):
    image, mask = volumes(tmp_path)
    found = data.segmentation(tmp_path)
    assert found.images.shape == (3, 10, 8, 3) and found.sites == ("HT",) * 3
    assert found.names[0] == "TCGA_HT_0001_2001/flair_1"
    above = image - image.min()
    top = np.percentile(above[above > 0], 99.5)
    for k in range(3):
        for y in range(10):
            for x in range(8):
                want = int(min(above[x, 9 - y, k] / top, 1) * 255 + 0.5)  # rows run from front to back
                assert found.images[k, y, x].tolist() == [want] * 3
                assert found.masks[k, y, x] == bool(mask[x, 9 - y, k])


def test_volumes_stored_the_other_way_round_give_the_same_slices(tmp_path):
    image, mask = volumes(tmp_path / "one")
    volumes(tmp_path / "two", image=image, mask=mask, turned=True)
    assert data.segmentation(tmp_path / "one").sha256 == data.segmentation(tmp_path / "two").sha256


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"mask": np.zeros((8, 10, 2), np.uint8)}, r"has \(8, 10, 3\) voxels, .*flair_mask.nii.gz \(8, 10, 2\)"),
        ({"mask": np.full((8, 10, 3), 2, np.uint8)}, "flair_mask.nii.gz is no binary mask"),
        ({"image": np.full((8, 10, 3), np.nan, np.float32)}, "flair.nii.gz holds 240 NaN or Inf of 240 voxels"),
        ({"image": np.zeros((8, 10, 3, 2), np.float32)}, "has 4 axes; needed are 3"),
    ],
)
def test_what_is_wrong_with_a_volume_is_said(tmp_path, wrong, message):
    volumes(tmp_path, **wrong)
    with pytest.raises(DataError, match=message):
        data.segmentation(tmp_path)


@pytest.mark.parametrize("gone", ["flair", "flair_mask"])
def test_volumes_that_do_not_pair_up_are_said(tmp_path, gone):
    volumes(tmp_path)
    (tmp_path / "TCGA_HT_0001_2001" / f"{gone}.nii.gz").unlink()
    with pytest.raises(DataError, match="images and masks do not pair up"):
        data.segmentation(tmp_path)


def test_a_damaged_volume_is_said(tmp_path):
    volumes(tmp_path)
    (tmp_path / "TCGA_HT_0001_2001" / "flair.nii.gz").write_bytes(b"\x1f\x8b not more")
    with pytest.raises(DataError, match="flair.nii.gz cannot be read as NIfTI"):
        data.segmentation(tmp_path)


def test_without_nibabel_the_extra_is_named(tmp_path, monkeypatch):
    (tmp_path / "a.nii.gz").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(DataError, match=r"nibabel, which is not installed: pip install netweight\[nifti\]"):
        data.segmentation(tmp_path)

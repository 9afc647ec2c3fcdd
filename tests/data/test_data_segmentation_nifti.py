"""NIfTI volumes, read by nibabel where it is installed, and what is said where it is not."""

from __future__ import annotations

import gzip
import sys

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from netweight import data
from netweight.data._segmentation import nifti
from netweight.errors import DataError

RANDOM = np.random.default_rng(2)
SECOND_ROW = slice(296, 312)  # of a header's bytes: srow_y, four float32 of the affine


def volumes(folder, patient="TCGA_HT_0001_2001", *, mask=None, image=None, turned=False, drawn_at=None):
    """``drawn_at`` is the mask's affine, where it is not its image's."""
    nibabel = pytest.importorskip("nibabel", reason="nibabel (the extra nifti) is not installed")
    image = RANDOM.integers(0, 900, (8, 10, 3)).astype(np.float32) if image is None else image
    mask = (RANDOM.random((8, 10, 3)) < 0.3).astype(np.uint8) if mask is None else mask
    (folder / patient).mkdir(parents=True, exist_ok=True)
    affine = np.diag([-1.0, -1.0, 1.0, 1.0] if turned else [1.0, 1.0, 1.0, 1.0])
    for name, values in (("flair", image), ("flair_mask", mask)):
        stored = values[::-1, ::-1] if turned else values
        place = affine if drawn_at is None or name == "flair" else drawn_at
        nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(stored), place), folder / patient / f"{name}.nii.gz")
    return image, mask


def affine(diagonal=(1, 1, 1), at=(0, 0, 0)):
    found = np.diag([*diagonal, 1.0])
    found[:3, 3] = at
    return found


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
    ("drawn_at", "apart"),
    [
        (affine(at=(500, 0, 0)), "500"),
        (affine(at=(0, 0, 0.2)), "0.2"),
        (affine((3, 3, 3)), "18"),  # at the far end of 10 voxels: 9 of 1 mm, 27
        (affine((1.02, 1, 1)), "0.14"),
        (affine((-1, 1, 1)), "7"),  # the same numbers said to lie on the other side
    ],
)
def test_a_mask_that_lies_elsewhere_than_its_image_is_refused(tmp_path, drawn_at, apart):
    volumes(tmp_path, drawn_at=drawn_at)
    message = rf"flair_mask.nii.gz lies elsewhere than .*flair.nii.gz: .* up to {apart} voxels apart \(limit 0.1\)"
    with pytest.raises(DataError, match=message):
        data.segmentation(tmp_path)


def test_a_mask_may_be_off_by_what_an_affine_is_rounded_by(tmp_path):
    image, mask = volumes(tmp_path / "one")
    volumes(tmp_path / "two", image=image, mask=mask, drawn_at=affine((1.001, 1, 1), at=(0.01, -0.02, 0)))
    assert data.segmentation(tmp_path / "one").sha256 == data.segmentation(tmp_path / "two").sha256


def test_the_limit_is_above_what_headers_lose_of_an_affine():
    """Tilted heads stored right to left and front to back, 512 voxels along each axis: there a quaternion is least exact."""
    nibabel = pytest.importorskip("nibabel", reason="nibabel (the extra nifti) is not installed")
    random = np.random.default_rng(0)
    corners = np.array([(x, y, z, 1) for x in (0, 511) for y in (0, 511) for z in (0, 511)]).T
    lost = []
    for _ in range(300):
        place = affine(at=random.uniform(-300, 300, 3))
        tilted = Rotation.from_rotvec(random.normal(0, 0.1, 3)).as_matrix()
        place[:3, :3] = np.diag([-1, -1, 1]) @ tilted * random.uniform(0.4, 3, 3)
        header = nibabel.Nifti1Header()
        header.set_data_shape((512,) * 3)
        header.set_sform(place, 1)
        header.set_qform(place, 1)
        kept = [np.linalg.solve(place, form @ corners) - corners for form in (header.get_sform(), header.get_qform())]
        lost.append([np.abs(off).max() for off in kept])
    as_float32, as_quaternion = np.array(lost).T
    assert as_float32.max() < nifti.APART / 100 and np.quantile(as_quaternion, 0.97) < nifti.APART


ORDERS = [((0, 1, 2), (-1, 1, 1)), ((0, 1, 2), (-1, -1, -1)), ((1, 0, 2), (1, 1, 1)), ((2, 0, 1), (1, -1, -1))]


@pytest.mark.parametrize("degrees", [0, 45, 50])  # at 45 the axes of the standard are a matter of rounding
@pytest.mark.parametrize(("axes", "signs"), ORDERS)
def test_a_mask_stored_in_another_order_lands_on_its_lesion(tmp_path, axes, signs, degrees):
    """The affine of the other order, written from its definition: where axis a of the copy goes, its voxel 0 and its step."""
    mask = np.zeros((8, 10, 3), np.uint8)
    mask[1:3, 6:9, 1] = 1
    image = 100 + 900 * mask.astype(np.float32)
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    own = np.array([[c, -2 * s, 0, 5], [s, 2 * c, 0, -7], [0, 0, 3, 11], [0, 0, 0, 1]])  # voxels of 1 x 2 x 3 mm
    stored, place = mask.transpose(axes), np.eye(4)
    place[:3, 3] = own[:3, 3]
    for a, (axis, sign) in enumerate(zip(axes, signs, strict=True)):
        place[:3, a] = sign * own[:3, axis]
        if sign < 0:
            stored = np.flip(stored, a)
            place[:3, 3] += (mask.shape[axis] - 1) * own[:3, axis]
    nibabel = pytest.importorskip("nibabel", reason="nibabel (the extra nifti) is not installed")
    nibabel.save(nibabel.Nifti1Image(image, own), tmp_path / "a.nii.gz")
    nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(stored), place), tmp_path / "a_mask.nii.gz")
    found = data.segmentation(tmp_path)
    assert found.masks.sum() == 6 and (found.images[found.masks] == 255).all() and not found.images[~found.masks].any()


def test_an_affine_that_gives_voxels_no_size_is_said(tmp_path):
    volumes(tmp_path)
    drawn = tmp_path / "TCGA_HT_0001_2001" / "flair_mask.nii.gz"
    header = bytearray(gzip.decompress(drawn.read_bytes()))
    header[SECOND_ROW] = bytes(16)
    drawn.write_bytes(gzip.compress(header))
    with pytest.raises(DataError, match="flair_mask.nii.gz: its affine gives voxels no size"):
        data.segmentation(tmp_path)


def test_a_volume_stored_twice_is_refused(tmp_path):
    volumes(tmp_path, "p0")
    (tmp_path / "p0" / "flair.nii").write_bytes(b"")
    with pytest.raises(DataError, match="flair.nii and .*flair.nii.gz have the same name; keep one of them"):
        data.segmentation(tmp_path)


def test_a_folder_above_the_patients_is_its_site(tmp_path):
    for patient in ("north/p1", "south/p2"):
        volumes(tmp_path, patient)
    found = data.segmentation(tmp_path)
    assert sorted({*zip(found.patients, found.sites, strict=True)}) == [("p1", "north"), ("p2", "south")]


def test_one_name_for_two_patients_of_volumes_is_refused(tmp_path):
    for patient in ("north/p1", "south/p1"):
        volumes(tmp_path, patient)
    with pytest.raises(DataError, match="patient 'p1' lies in two folders, .*north.p1 and .*south.p1"):
        data.segmentation(tmp_path)


def test_linked_folders_of_volumes_are_read_and_hidden_files_are_not(tmp_path):
    volumes(tmp_path / "store", "p1")
    volumes(tmp_path / "set", "p0")
    (tmp_path / "set" / "p1").symlink_to(tmp_path / "store" / "p1")
    (tmp_path / "set" / "p0" / "._flair.nii.gz").write_bytes(b"what macOS keeps beside a file")
    assert sorted({*data.segmentation(tmp_path / "set").patients}) == ["p0", "p1"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"mask": np.zeros((8, 10, 2), np.uint8)}, r"has \(8, 10, 3\) voxels, .*flair_mask.nii.gz \(8, 10, 2\)"),
        ({"mask": np.full((8, 10, 3), 2, np.uint8)}, "flair_mask.nii.gz is no binary mask: .*others to 0$"),
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

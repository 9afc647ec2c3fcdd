"""The real sets, against what their own READMEs say how to read them."""

from __future__ import annotations

import io
import json
import shutil
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from netweight import data
from netweight.data._segmentation.kolektor_sdd import items
from netweight.errors import DataError


@pytest.fixture
def real(real_data, monkeypatch):
    monkeypatch.setenv("NETWEIGHT_DATA", str(real_data))
    if not (real_data / "lgg-mri").is_dir():
        pytest.skip(f"{real_data} has no segmentation data")
    return real_data


@pytest.fixture(scope="module")
def lgg():
    folder = data.folder()
    if folder is None or not (folder / "lgg-mri").is_dir():
        pytest.skip("no lgg-mri in the folder of real data, which NETWEIGHT_DATA names")
    return data.segmentation("lgg-mri")


def test_lgg_is_read_as_its_readme_says(real, lgg):
    folder = real / "lgg-mri" / "slices128"
    index = json.loads((folder / "index.json").read_text())
    assert (len(lgg), int(lgg.positive.sum()), len(set(lgg.patients))) == (3405, 1187, 93)
    site_of = dict(zip(lgg.patients, lgg.sites, strict=True))
    assert Counter(site_of.values()) == {"DU": 38, "HT": 29, "CS": 13, "FG": 12, "EZ": 1}
    for patient in ("TCGA_CS_4941_19960909", "TCGA_HT_A61B_19991127"):
        x = np.asarray(Image.open(folder / f"{patient}.webp").convert("RGB")).reshape(-1, 128, 128, 3)
        y = np.asarray(Image.open(folder / f"{patient}_mask.png")).reshape(-1, 128, 128)
        mine = [i for i, name in enumerate(lgg.patients) if name == patient]
        assert (lgg.images[mine] == x).all() and (lgg.masks[mine] == y).all()
        assert [lgg.names[i] for i in mine] == [f"{patient}_{n}" for n in index[patient]["slice_numbers"]]
        assert lgg.masks[mine].sum() == index[patient]["tumour_pixels"]


def test_lgg_at_256_pixels_resized_is_lgg_at_128(real, lgg):
    """Those at 128 were made from the same patients by other code: 2 x 2 means, halves up; masks at 2 of 4 pixels."""
    small = data.segmentation("lgg-mri/slices256", size=128)
    same = [lgg.names.index(name) for name in small.names]
    assert (small.images == lgg.images[same]).all() and (small.masks == lgg.masks[same]).all()


def test_lgg_leaves_each_site_out_once(lgg):
    splits = data.leave_one_site_out(lgg)
    assert [split.name for split in splits] == [f"without site {site}" for site in ("CS", "DU", "EZ", "FG", "HT")]
    for split, site in zip(splits, ("CS", "DU", "EZ", "FG", "HT"), strict=True):
        assert {lgg.sites[i] for i in split.test} == {site}
        assert {lgg.sites[i] for i in split.train + split.validation}.isdisjoint({site})
        assert len(split.train) + len(split.validation) + len(split.test) == 3405


def test_lgg_folds_hold_no_equal_images_and_their_share_of_positives(lgg):
    for split in data.folds(lgg, 5, seed=2026):
        assert split.duplicates == ()
        shares = [np.mean(lgg.positive[list(part)]) for part in (split.train, split.validation, split.test)]
        assert max(shares) - min(shares) < 0.12  # of all slices 0.35 are positive


def test_figshare_is_read_and_not_split(real):
    with np.load(real / "figshare-brain-t1c" / "slices256.npz") as z:
        image, mask = z["image"], z["mask"]
    found = data.segmentation("figshare-brain-t1c")
    assert (found.images == image[..., None]).all() and (found.masks == mask).all()
    for refuse in (data.folds, data.holdout, data.leave_one_site_out):
        with pytest.raises(DataError, match="for testing only and is not split: which slices are of one patient"):
            refuse(found)


def test_magnetic_tiles_are_read_and_grouped(real):
    with np.load(real / "magnetic-tile" / "tiles.npz") as z:
        arrays = {key: z[key] for key in z.files}
    with pytest.raises(DataError, match="mixed sizes.*say size="):
        data.segmentation("magnetic-tile")
    found = data.segmentation("magnetic-tile", size=64)
    group = {name: f"group-{number:03d}" for name, number in zip(arrays["name"], arrays["group"], strict=True)}
    assert len(found) == 551 and all(group[n] == p for n, p in zip(found.names, found.patients, strict=True))
    i = int(np.argmax(arrays["defect_pixels"]))
    height, width = int(arrays["height"][i]), int(arrays["width"][i])
    part = found.masks[found.names.index(arrays["name"][i])].mean() * max(height, width) ** 2
    assert part == pytest.approx(arrays["defect_pixels"][i], rel=0.05)  # resampled at one half
    begin, end = arrays["jpeg_offset"][i], arrays["jpeg_offset"][i + 1]
    tile = np.asarray(Image.open(io.BytesIO(arrays["jpeg"].tobytes()[begin:end])), np.float64)
    mean = found.images[found.names.index(arrays["name"][i])].mean() * max(height, width) ** 2
    assert mean == pytest.approx(tile.sum(), rel=0.01)  # area resampling keeps the sum; the border is black
    for split in data.folds(found, 5):
        assert not set(split.train_patients) & set(split.test_patients + split.validation_patients)


def test_kolektor_is_read(real, tmp_path):
    with np.load(real / "kolektor-sdd" / "surfaces.npz") as z:
        shape = z["shape"]
        masks = np.unpackbits(z["mask"])[: shape.prod()].reshape(shape).astype(bool)
        pngs, offsets = z["png"].tobytes(), z["offset"]
        number = z["index"]
    found = data.segmentation("kolektor-sdd")
    order = [found.names.index(f"surface-{n:03d}") for n in number]
    assert (found.masks[order] == masks).all() and int(found.positive.sum()) == 44
    for i in (0, 60, 118):
        image = np.asarray(Image.open(io.BytesIO(pngs[offsets[i] : offsets[i + 1]])))
        assert (found.images[order[i]] == image[..., None]).all()
    shutil.copy(real / "kolektor-sdd" / "surfaces.npz", tmp_path / "mine.npz")
    assert data.segmentation(tmp_path / "mine.npz").sha256 == found.sha256


def test_kolektor_holds_equal_images_as_different_surfaces_and_a_split_says_so(real):
    found = data.segmentation("kolektor-sdd", size=64)
    pairs = set()
    for split in (split for seed in range(3) for split in data.folds(found, 5, seed=seed)):
        pairs |= {(found.names[i], found.names[j]) for i, j in split.duplicates}
        assert ("of equal images across parts" in split.describe()) == bool(split.duplicates)
    assert pairs == {("surface-005", "surface-148"), ("surface-098", "surface-225")}


def test_a_surface_that_may_be_of_two_items_joins_them():
    assert items([0, 6, 8, 16]) == {0: 0, 6: 0, 8: 1, 16: 2}
    assert items([0, 7, 8, 16, 23, 31, 32]) == {0: 0, 7: 0, 8: 0, 16: 2, 23: 2, 31: 2, 32: 2}

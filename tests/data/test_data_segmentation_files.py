"""Slices with masks from files: what is read, and what is said when something is wrong with them."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from netweight import data
from netweight.errors import DataError

RANDOM = np.random.default_rng(5)


def picture(height=12, width=12):
    return RANDOM.integers(0, 256, (height, width, 3), dtype=np.uint8)


def drawing(height=12, width=12):
    return RANDOM.random((height, width)) < 0.3


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array.astype(np.uint8) * 255 if array.dtype == bool else array).save(path)


def patients(folder, ids=("TCGA_CS_0001_1999", "TCGA_DU_0002_2000"), count=3, suffix=".tif", shape=(12, 12)):
    """Folders as on Kaggle; {name: (image, mask)}."""
    made = {}
    for one in ids:
        for n in range(1, count + 1):
            made[f"{one}_{n}"] = picture(*shape), drawing(*shape)
            save(folder / one / f"{one}_{n}{suffix}", made[f"{one}_{n}"][0])
            save(folder / one / f"{one}_{n}_mask{suffix}", made[f"{one}_{n}"][1])
    return made


def stacks(folder, made):
    """The same slices, one tall picture a patient."""
    folder.mkdir()
    ids = sorted({name.rpartition("_")[0] for name in made})
    for one in ids:
        mine = sorted((int(name.rpartition("_")[2]), name) for name in made if name.startswith(one))
        save(folder / f"{one}.png", np.concatenate([made[name][0] for _, name in mine]))
        save(folder / f"{one}_mask.png", np.concatenate([made[name][1] for _, name in mine]))
    (folder / "index.json").write_text(json.dumps({one: {"institution": one.split("_")[1]} for one in ids}))


@pytest.mark.parametrize("suffix", [".tif", ".png", ".TIFF"])
def test_patient_folders_are_read_by_patient_and_number(tmp_path, suffix):
    made = patients(tmp_path, count=11, suffix=suffix)
    (tmp_path / "data.csv").write_text("further files do not matter")
    (tmp_path / "README.md").write_text("nor this")
    found = data.segmentation(tmp_path)
    assert found.names[:3] == ("TCGA_CS_0001_1999_1", "TCGA_CS_0001_1999_2", "TCGA_CS_0001_1999_3")
    assert found.names[10] == "TCGA_CS_0001_1999_11"  # by number, not by letters
    assert found.patients == ("TCGA_CS_0001_1999",) * 11 + ("TCGA_DU_0002_2000",) * 11
    assert found.sites == ("CS",) * 11 + ("DU",) * 11
    for i, name in enumerate(found.names):
        assert (found.images[i] == made[name][0]).all() and (found.masks[i] == made[name][1]).all()
    assert not found.phantom and not found.test_only


def test_folders_flat_names_and_stacks_of_the_same_slices_have_one_hash(tmp_path):
    made = patients(tmp_path / "folders")
    stacks(tmp_path / "stacks", made)
    for file in (tmp_path / "folders").rglob("*.tif"):
        os.makedirs(tmp_path / "flat", exist_ok=True)
        shutil.copy(file, tmp_path / "flat" / file.name)
    first, *others = (data.segmentation(tmp_path / name) for name in ("folders", "stacks", "flat"))
    for other in others:
        assert other.sha256 == first.sha256 and other.names == first.names and other.sites == first.sites


@pytest.mark.parametrize("change", ["pixel", "mask", "patient"])
def test_the_hash_follows_every_pixel_and_id(tmp_path, change):
    patients(tmp_path)
    before = data.segmentation(tmp_path)
    images, masks, names = before.images.copy(), before.masks.copy(), list(before.patients)
    if change == "pixel":
        images[1, 2, 3, 0] ^= 1
    elif change == "mask":
        masks[5, 11, 11] ^= True
    else:
        names[0] = "TCGA_CS_0003_1999"
    after = data.from_arrays(images, masks, names, sites=before.sites, names=before.names)
    same = data.from_arrays(before.images, before.masks, before.patients, sites=before.sites, names=before.names)
    assert same.sha256 == before.sha256 != after.sha256


def test_the_hash_does_not_follow_the_order(tmp_path):
    patients(tmp_path)
    one = data.segmentation(tmp_path)
    order = RANDOM.permutation(len(one))
    pick = lambda values: [values[i] for i in order]  # noqa: E731
    other = data.from_arrays(
        one.images[order], one.masks[order], pick(one.patients), sites=pick(one.sites), names=pick(one.names)
    )
    assert other.sha256 == one.sha256


def test_any_folder_names_do_and_a_folder_above_is_the_site(tmp_path):
    for site, patient in (("north", "p1"), ("north", "p2"), ("south", "p3")):
        save(tmp_path / site / patient / "slice-7.png", picture())
        save(tmp_path / site / patient / "slice-7_mask.png", drawing())
    found = data.segmentation(tmp_path)
    assert found.patients == ("p1", "p2", "p3") and found.sites == ("north", "north", "south")
    assert found.names == ("p1/slice-7", "p2/slice-7", "p3/slice-7")


KINDS = [
    "grey", "palette", "opaque", "zero-one", "one bit", "three channels", "opaque mask", "opaque grey mask", "16 bits mask",
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_and_masks_come_in_several_kinds(tmp_path, kind):
    image, mask = picture(), drawing()
    stored, drawn = Image.fromarray(image), Image.fromarray(mask.astype(np.uint8) * 255)
    expected = image
    if kind == "grey":
        stored, expected = Image.fromarray(image[..., 0]), np.repeat(image[..., :1], 3, axis=2)
    elif kind == "palette":
        stored = Image.fromarray(image[..., 0] // 16 * 16).convert("P")
        expected = np.repeat(image[..., :1] // 16 * 16, 3, axis=2)
    elif kind == "opaque":
        stored = stored.convert("RGBA")
    elif kind == "zero-one":
        drawn = Image.fromarray(mask.astype(np.uint8))
    elif kind == "one bit":
        drawn = Image.fromarray(mask)
    elif kind == "opaque mask":
        drawn = drawn.convert("RGBA")
    elif kind == "opaque grey mask":
        drawn = drawn.convert("LA")
    elif kind == "16 bits mask":
        drawn = Image.fromarray(mask.astype(np.uint16) * 65535)
    else:
        drawn = drawn.convert("RGB")
    (tmp_path / "p").mkdir()
    stored.save(tmp_path / "p" / "a_1.png")
    drawn.save(tmp_path / "p" / "a_1_mask.png")
    found = data.segmentation(tmp_path)
    assert (found.images[0] == expected).all() and (found.masks[0] == mask).all()


BLACK, WHITE, RED, BLUE = (0, 0, 0), (255, 255, 255), (128, 0, 0), (0, 0, 128)
RAMP = [(i, i, i) for i in range(256)]


def indexed(path, mask, palette, classes=(0, 1)):
    """A mask as indices: of background, and of the lesion."""
    drawn = Image.fromarray(np.where(mask, classes[1], classes[0]).astype(np.uint8)).convert("P")
    drawn.putdata(np.where(mask, classes[1], classes[0]).ravel().tolist())
    drawn.putpalette([level for colour in palette for level in colour])
    drawn.save(path)


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize(
    ("palette", "classes"),
    [
        ([BLACK, WHITE], (0, 1)),
        ([WHITE, BLACK], (1, 0)),
        (RAMP, (0, 255)),
        (RAMP[::-1], (255, 0)),
        (RAMP, (0, 1)),  # classes as they are kept in grey pictures too
        ([BLACK, RED], (0, 1)),  # classes in the manner of Pascal VOC
        ([BLACK, BLUE, WHITE], (0, 2)),
        ([BLACK] * 256, (0, 1)),  # classes, and no colours set
    ],
)
def test_a_mask_with_a_palette_is_what_is_seen_or_else_its_classes(tmp_path, suffix, palette, classes):
    mask = drawing()
    save(tmp_path / "p" / f"a_1.{suffix}", picture())
    indexed(tmp_path / "p" / f"a_1_mask.{suffix}", mask, palette, classes)
    assert (data.segmentation(tmp_path).masks[0] == mask).all()


@pytest.mark.parametrize(
    ("palette", "index", "found"), [([WHITE, BLACK], 1, 0), ([BLACK, WHITE], 1, 1), ([BLACK, RED], 0, 0)]
)
def test_one_index_alone_is_what_its_colour_says(tmp_path, palette, index, found):
    save(tmp_path / "p" / "a_1.png", picture())
    indexed(tmp_path / "p" / "a_1_mask.png", drawing(), palette, (index, index))
    assert (data.segmentation(tmp_path).masks == found).all()


@pytest.mark.parametrize(
    ("palette", "classes", "message"),
    [
        ([RED, BLUE], (0, 1), r"which colour is background\? .* begins with \(128, 0, 0\) instead of black"),
        ([WHITE, BLACK, RED], (0, 1), "which colour is background"),
        ([WHITE, WHITE, RED], (0, 1), "which colour is background"),
        ([BLACK, RED, BLUE], (0, 2), r"no binary mask: it holds 2 values \(0, 2\)"),  # one of several classes
        ([BLACK, RED, BLUE], (1, 2), r"no binary mask: it holds 2 values \(1, 2\)"),
    ],
)
def test_a_palette_that_does_not_tell_the_background_is_refused(tmp_path, palette, classes, message):
    save(tmp_path / "p" / "a_1.png", picture())
    indexed(tmp_path / "p" / "a_1_mask.png", drawing(), palette, classes)
    with pytest.raises(DataError, match=f"a_1_mask.png.* {message}"):
        data.segmentation(tmp_path)


def test_the_arrays_cannot_be_written_to(tmp_path):
    patients(tmp_path)
    found = data.segmentation(tmp_path)
    with pytest.raises(ValueError, match="read-only"):
        found.images[0] = 0
    with pytest.raises(ValueError, match="read-only"):
        found.masks[0] = True


def _break(folder, what):
    """Do one thing wrong; the message expected."""
    first = folder / "TCGA_CS_0001_1999" / "TCGA_CS_0001_1999_1.png"
    mask = first.with_name(first.stem + "_mask.png")
    if what == "no mask":
        mask.unlink()
        return "do not pair up: 1 without a mask .*1999_1.png.*mask of zeros"
    if what == "no image":
        first.unlink()
        return "do not pair up: 1 mask without an image .*1999_1_mask.png"
    if what == "twice":
        shutil.copy(first, first.with_suffix(".tif"))
        return "1999_1.png and .*1999_1.tif have the same name"
    if what == "grey mask":
        save(mask, picture()[..., 0])
        return "1999_1_mask.png is no binary mask: it holds .* values .*Threshold it first"
    if what == "three levels":
        save(mask, np.array([[0, 1, 255]], np.uint8).repeat(12, 0).repeat(4, 1))
        return r"no binary mask: it holds 3 values \(0, 1, 255\)"
    if what == "coloured mask":
        save(mask, picture())
        return "a mask has one channel, or equal ones; this has 3 that differ"
    if what == "transparent mask":
        save(mask, drawing()[..., None].repeat(4, 2))
        return "1999_1_mask.png is partly transparent"
    if what == "mask size":
        save(mask, drawing(12, 10))
        return "1999_1.png: the image has 12 x 12 pixels, its mask 12 x 10"
    if what == "mixed sizes":
        save(first, picture(20, 12))
        save(mask, drawing(20, 12))
        return "mixed sizes: .*1999_1.png has 20 x 12 pixels, .*1999_2.png 12 x 12; say size="
    if what == "truncated":
        first.write_bytes(first.read_bytes()[:-40])
        return "1999_1.png cannot be read as a picture: .*copy it again"
    if what == "flipped byte":
        broken = bytearray(first.read_bytes())
        broken[len(broken) // 2] ^= 255
        first.write_bytes(broken)
        return "1999_1.png cannot be read as a picture"
    if what == "text":
        first.write_text("not a picture")
        return "1999_1.png cannot be read as a picture"
    if what == "empty file":
        mask.write_bytes(b"")
        return "1999_1_mask.png cannot be read as a picture"
    if what == "16 bits":
        Image.fromarray(np.full((12, 12), 40_000, np.uint16)).save(first)
        return "1999_1.png is of Pillow's mode 'I;16'; save it as 8-bit"
    if what == "transparent":
        Image.fromarray(np.full((12, 12, 4), 99, np.uint8)).save(first)
        return "1999_1.png is partly transparent"
    first.rename(folder / "stray.png")
    mask.rename(folder / "stray_mask.png")
    return "whose picture is .*stray.png"


WRONG = [
    "no mask", "no image", "twice", "grey mask", "three levels", "coloured mask", "mask size", "mixed sizes", "truncated",
    "transparent mask", "flipped byte", "text", "empty file", "16 bits", "transparent", "stray",
]  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_with_a_folder_is_said_with_the_file(tmp_path, what):
    patients(tmp_path, suffix=".png")
    message = _break(tmp_path, what)
    with pytest.raises(DataError, match=message):
        data.segmentation(tmp_path)


def test_a_truncated_tiff_and_one_of_several_pages_are_said(tmp_path):
    patients(tmp_path)
    first = tmp_path / "TCGA_CS_0001_1999" / "TCGA_CS_0001_1999_1.tif"
    whole = first.read_bytes()
    first.write_bytes(whole[:200])
    with pytest.raises(DataError, match="1999_1.tif cannot be read as a picture"):
        data.segmentation(tmp_path)
    pages = [Image.fromarray(picture()) for _ in range(3)]
    pages[0].save(first, save_all=True, append_images=pages[1:])
    with pytest.raises(DataError, match="1999_1.tif holds 3 pages; save one slice a file"):
        data.segmentation(tmp_path)


def test_one_name_for_two_patients_is_refused(tmp_path):
    for site in ("north", "south"):
        save(tmp_path / site / "p1" / "a_1.png", picture())
        save(tmp_path / site / "p1" / "a_1_mask.png", drawing())
    with pytest.raises(DataError, match="patient 'p1' lies in two folders"):
        data.segmentation(tmp_path)


def test_linked_folders_and_files_are_read(tmp_path):
    patients(tmp_path / "store")
    want = data.segmentation(tmp_path / "store")
    one, two = sorted((tmp_path / "store").iterdir())
    (tmp_path / "set" / one.name).mkdir(parents=True)
    for file in one.iterdir():
        (tmp_path / "set" / one.name / file.name).symlink_to(file)
    (tmp_path / "set" / two.name).symlink_to(two)
    assert data.segmentation(tmp_path / "set").sha256 == want.sha256


def _linked_patient(folder, first):
    (folder / "p9").symlink_to(first)
    return "1999 and .*p9 are one folder, linked, and would be read twice; keep one of them"


def _linked_slice(folder, first):
    for kind in ("", "_mask"):
        (first / f"other_1{kind}.tif").symlink_to(first / f"{first.name}_1{kind}.tif")
    return "1999_1.tif and .*other_1.tif are one file, linked"


def _circle(folder, first):
    (first / "up").symlink_to(folder)
    return f"{folder.name} and .*up are one folder"


def _link_to_nothing(folder, first):
    (folder / "p9").symlink_to(folder / "gone")
    return "p9 is a link to .*gone, which is not there"


@pytest.mark.parametrize("wrong", [_linked_patient, _linked_slice, _circle, _link_to_nothing])
def test_links_that_bring_something_twice_or_nothing_are_refused(tmp_path, wrong):
    patients(tmp_path)
    message = wrong(tmp_path, sorted(tmp_path.iterdir())[0])
    with pytest.raises(DataError, match=message):
        data.segmentation(tmp_path)


def test_masks_may_be_links_to_one_file_of_zeros(tmp_path):
    save(tmp_path / "p" / "a_1_mask.png", np.zeros((12, 12), bool))
    (tmp_path / "p" / "a_2_mask.png").symlink_to("a_1_mask.png")
    for n in (1, 2):
        save(tmp_path / "p" / f"a_{n}.png", picture())
    assert not data.segmentation(tmp_path).masks.any()


def test_a_mask_without_a_name_of_its_own_is_said(tmp_path):
    patients(tmp_path)
    save(tmp_path / "p" / "_mask.png", drawing())
    with pytest.raises(DataError, match="1 without a mask .*_mask.png"):
        data.segmentation(tmp_path)


def test_a_folder_that_cannot_be_listed_is_said(tmp_path, monkeypatch):
    patients(tmp_path)
    closed, every = sorted(tmp_path.iterdir())[1], type(tmp_path).iterdir

    def listed(folder):
        if folder == closed:
            raise PermissionError(13, "Permission denied")
        return every(folder)

    monkeypatch.setattr(type(tmp_path), "iterdir", listed)
    with pytest.raises(DataError, match="2000 cannot be listed: Permission denied"):
        data.segmentation(tmp_path)


def test_an_empty_folder_and_unknown_names_say_what_is_read(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing else")
    with pytest.raises(
        DataError, match="holds no slices with masks.*What is read: patient folders.*; index.json.*; NIfTI.*tiles.npz"
    ):
        data.segmentation(tmp_path)
    with pytest.raises(DataError, match="no segmentation data named 'lgg-mr'; did you mean 'lgg-mri'"):
        data.segmentation("lgg-mr")
    with pytest.raises(
        DataError, match=r"name of the slices is empty; give a path \(\. is this folder\), or one of phantom"
    ):
        data.segmentation("")
    with pytest.raises(DataError, match="size = 0"):
        data.segmentation("phantom", size=0)


def test_a_named_set_without_its_folder_says_what_to_set(tmp_path, monkeypatch):
    monkeypatch.delenv("NETWEIGHT_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="lgg-mri needs NETWEIGHT_DATA"):
        data.segmentation("lgg-mri")
    monkeypatch.setenv("NETWEIGHT_DATA", str(tmp_path))
    with pytest.raises(DataError, match="lgg-mri is not in .*slices128 is missing"):
        data.segmentation("lgg-mri")


def test_two_kinds_in_one_folder_are_refused(tmp_path):
    patients(tmp_path)
    (tmp_path / "volume.nii").write_bytes(b"")
    with pytest.raises(DataError, match="NIfTI volumes.* and patient folders.*; give a folder with one kind"):
        data.segmentation(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "index.json").write_text("{"), "index.json is not JSON"),
        (lambda folder: (folder / "index.json").write_text("[1]"), "an index is"),
        (lambda folder: (folder / "TCGA_CS_0001_1999_mask.png").unlink(), r"1 missing \(TCGA_CS_0001_1999_mask\)"),
        (lambda folder: save(folder / "more.png", picture()), r"1 that the index does not know \(more\)"),
        (lambda folder: save(folder / "TCGA_CS_0001_1999_mask.png", drawing(24, 12)), "36 x 12 pixels, .* 24 x 12"),
        (lambda folder: _index(folder, {"slices": 4}), "3 square slices, where index.json says 4"),
        (lambda folder: _index(folder, {"slices": "3"}), r'slices = "3" of TCGA_CS_0001_1999 is no whole number'),
        (lambda folder: _index(folder, {"slice_numbers": [1, 2]}), "has 3 slices, but slice_numbers"),
        (lambda folder: _twice(folder / "TCGA_CS_0001_1999.png"), "1999.png and .*1999.webp have the same name"),
    ],
)
def test_what_is_wrong_with_stacks_is_said(tmp_path, change, message):
    stacks(tmp_path / "stacks", patients(tmp_path / "folders"))
    change(tmp_path / "stacks")
    with pytest.raises(DataError, match=message):
        data.segmentation(tmp_path / "stacks")


def _index(folder, row):
    (folder / "index.json").write_text(json.dumps({"TCGA_CS_0001_1999": row, "TCGA_DU_0002_2000": {}}))


def _twice(file):
    Image.open(file).save(file.with_suffix(".webp"), lossless=True)


def test_stacks_with_capital_suffixes_are_read_and_hidden_files_are_not(tmp_path):
    stacks(tmp_path / "stacks", patients(tmp_path / "folders"))
    want = data.segmentation(tmp_path / "stacks").sha256
    for file in (tmp_path / "stacks").glob("*.png"):
        (tmp_path / "stacks" / f"._{file.name}").write_bytes(b"what macOS keeps beside a file")
        file.rename(file.with_suffix(".PNG"))
    assert data.segmentation(tmp_path / "stacks").sha256 == want


def test_the_folder_above_one_folder_of_stacks_will_do(tmp_path):
    made = patients(tmp_path / "folders")
    (tmp_path / "above").mkdir()
    stacks(tmp_path / "above" / "small", made)
    above, own = data.segmentation(tmp_path / "above"), data.segmentation(tmp_path / "above" / "small")
    assert above.sha256 == own.sha256 and above.names == own.names
    stacks(tmp_path / "above" / "large", made)
    with pytest.raises(DataError, match="above holds 2 folders of stacked images; give one of them: .*large, .*small"):
        data.segmentation(tmp_path / "above")
    (tmp_path / "above" / "large" / "index.json").write_text("{")  # damaged, not of something else
    with pytest.raises(DataError, match="above holds 2 folders of stacked images"):
        data.segmentation(tmp_path / "above")


@pytest.mark.parametrize("text", ['{"scanner": {"tesla": 3}}', "[1, 2]", "not JSON"])
def test_an_index_of_something_else_does_not_make_pairs_a_stack(tmp_path, text):
    patients(tmp_path)
    want = data.segmentation(tmp_path).sha256
    next(folder for folder in tmp_path.iterdir() if folder.is_dir()).joinpath("index.json").write_text(text)
    assert data.segmentation(tmp_path).sha256 == want


def test_a_damaged_archive_is_said(tmp_path):
    (tmp_path / "tiles.npz").write_bytes(b"PK\x03\x04 but no more")
    with pytest.raises(DataError, match="tiles.npz cannot be read: .*copy it again"):
        data.segmentation(tmp_path)
    with pytest.raises(DataError, match="tiles.npz cannot be read"):
        data.segmentation(tmp_path / "tiles.npz")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"images": np.zeros((2, 4, 4), np.uint8)}, r"images are uint8 \(2, 4, 4\)"),
        ({"images": np.zeros((2, 4, 4, 3))}, "images are float64"),
        ({"masks": np.zeros((2, 4, 4), np.uint8)}, "masks are uint8"),
        ({"masks": np.zeros((2, 4, 5), bool)}, r"masks are bool \(2, 4, 5\)"),
        ({"patients": ["a"]}, "2 slices, but 1 patients"),
        ({"names": ["x", "x"]}, "two slices are called 'x'"),
        ({"patients": ["a", "a"], "sites": ["n", "s"]}, "patient 'a' is at two sites, 'n' and 's'"),
        ({"images": np.zeros((0, 4, 4, 3), np.uint8), "masks": np.zeros((0, 4, 4), bool), "patients": []}, "no slices"),
    ],
)
def test_arrays_that_do_not_belong_together_are_refused(wrong, message):
    given = {"images": np.zeros((2, 4, 4, 3), np.uint8), "masks": np.zeros((2, 4, 4), bool), "patients": ["a", "b"]}
    with pytest.raises(DataError, match=message):
        data.from_arrays(**(given | wrong))

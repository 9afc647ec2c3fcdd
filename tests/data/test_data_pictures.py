"""Pictures without masks: which are found, and that values go to the net's square and back as slices and masks do."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from netweight import data
from netweight.errors import DataError


def test_pictures_are_found_in_patients_folders_and_masks_are_not(tmp_path):
    for name in (
        "b/2.png",
        "b/2_mask.png",
        "a.JPG",
        "c/d/1.webp",
        ".hidden/x.png",
        "notes.txt",
        "e.tiff",
        "f.bmp",
        "g.gif",
    ):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")
    found = [str(file.relative_to(tmp_path)) for file in data.pictures(tmp_path)]
    assert found == ["a.JPG", "b/2.png", "c/d/1.webp", "e.tiff", "f.bmp", "g.gif"]


def test_pictures_are_found_through_links(tmp_path):
    for file in (tmp_path / "store" / "1.png", tmp_path / "set" / "2.png"):
        file.parent.mkdir()
        file.write_bytes(b"")
    (tmp_path / "set" / "a").symlink_to(tmp_path / "store")
    found = [str(file.relative_to(tmp_path)) for file in data.pictures(tmp_path / "set")]
    assert found == ["set/2.png", "set/a/1.png"]


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(DataError, match="is not there"):
        data.pictures(tmp_path / "nowhere")
    (tmp_path / "1_mask.png").write_bytes(b"")
    with pytest.raises(DataError, match="holds no pictures .*; taken for masks: 1 file named"):
        data.pictures(tmp_path)


@pytest.mark.parametrize("suffix", ["png", "tif", "jpg", "webp", "bmp", "gif"])
def test_every_kind_is_read(tmp_path, suffix):
    levels = np.full((6, 4, 3), 100, np.uint8)
    Image.fromarray(levels).save(tmp_path / f"a.{suffix}")
    assert np.abs(data.picture(tmp_path / f"a.{suffix}").astype(int) - levels).max() <= 2  # JPEG and WebP are lossy


@pytest.mark.parametrize("shape", [(7, 12), (12, 7), (40, 40), (5, 5), (16, 16)])
def test_values_come_back_where_the_pixels_were(shape):
    """A linear ramp: linear resampling keeps it inside, area resampling of ramps is a ramp of the means."""
    height, width = shape
    side, size = max(shape), 16
    places = (np.arange(size) + 0.5) * side / size - 0.5  # of the square's pixels, in the picture's
    square = np.add.outer(places, 3 * places).astype(np.float32)
    found = data.unsquare(square, height, width)
    top, left = (side - height) // 2, (side - width) // 2
    want = np.add.outer(np.arange(height) + top, 3.0 * (np.arange(width) + left))
    assert found.shape == shape
    edge = int(np.ceil(side / size)) if side != size else 0  # beyond the outermost centres their value holds
    if side % size and size % side:
        edge += 1
    inner = (slice(edge, height - edge), slice(edge, width - edge))
    if side >= size:
        np.testing.assert_allclose(found[inner], want[inner], atol=1e-4)
    else:  # windows of unequal length: within half a square's pixel
        np.testing.assert_allclose(found, want, atol=2 * side / size)


def test_a_picture_reaches_the_net_as_a_slice_of_training_would(tmp_path):
    slices = data.segmentation("phantom:3x1", size=48)
    for k in range(3):
        folder = tmp_path / slices.patients[k]
        folder.mkdir()
        Image.fromarray(slices.images[k, :30]).save(folder / "s_1.png")
        Image.fromarray(slices.masks[k, :30]).save(folder / "s_1_mask.png")
    again = data.segmentation(tmp_path, size=32)
    for k, file in enumerate(data.pictures(tmp_path)):
        assert np.array_equal(data.square(data.picture(file), 32), again.images[k])

"""Resampling in whole numbers, against fractions pixel by pixel."""

from __future__ import annotations

from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from netweight import data
from netweight.data._segmentation._resize import fit, squared


def shares(side: int, size: int, i: int) -> dict[int, Fraction]:
    """What each old pixel adds to the i-th new one."""
    if side > size:
        start, end = Fraction(i * side, size), Fraction((i + 1) * side, size)
        parts = {j: min(end, j + 1) - max(start, j) for j in range(side)}
        return {j: Fraction(part) * size / side for j, part in parts.items() if part > 0}
    place = min(max(Fraction(2 * i + 1, 2) * side / size - Fraction(1, 2), Fraction(0)), Fraction(side - 1))
    left = floor(place)
    return {left: 1 - (place - left), min(left + 1, side - 1): place - left} if place > left else {left: Fraction(1)}


def oracle(picture: np.ndarray, size: int) -> list[list[Fraction]]:
    return [[oracle_at(picture, size, y, x) for x in range(size)] for y in range(size)]


def oracle_at(picture: np.ndarray, size: int, y: int, x: int) -> Fraction:
    rows, columns = shares(len(picture), size, y), shares(len(picture), size, x)
    return sum((a * b * int(picture[i, j]) for i, a in rows.items() for j, b in columns.items()), Fraction(0))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 11), st.integers(1, 11), st.integers(0, 2**32))
def test_pixels_are_area_means_or_linear_with_halves_up(side, size, seed):
    random = np.random.default_rng(seed)
    image = random.integers(0, 256, (side, side, 3), dtype=np.uint8)
    mask = random.random((side, side)) < 0.5
    pixels, drawn = fit(image, mask, size)
    assert pixels.shape == (size, size, 3) and pixels.dtype == np.uint8 and drawn.dtype == np.bool_
    for channel in range(3):
        want = [[floor(value + Fraction(1, 2)) for value in row] for row in oracle(image[..., channel], size)]
        assert (pixels[..., channel] == want).all()
    assert (drawn == [[value >= Fraction(1, 2) for value in row] for row in oracle(mask, size)]).all()


def test_shrinking_by_a_whole_number_is_what_pillow_calls_box():
    image = np.random.default_rng(0).integers(0, 256, (100, 100, 3), dtype=np.uint8)
    theirs = np.asarray(Image.fromarray(image).resize((25, 25), Image.Resampling.BOX)).astype(int)
    assert abs(fit(image, image[..., 0] > 99, 25)[0] - theirs).max() <= 1  # Pillow rounds after each axis


def test_sums_beyond_32_bits_stay_exact():
    image = np.array([[255, 0], [0, 255]], np.uint8)[..., None].repeat(3, axis=2)
    found, mask = fit(image, image[..., 0] > 0, 1100)  # weights of (2 * 1100) ** 2 parts
    assert found[0, 0, 0] == found[-1, -1, 0] == 255 and found[0, -1, 0] == 0
    for y, x in ((549, 300), (700, 551), (275, 824)):
        want = oracle_at(image[..., 0], 1100, y, x)
        assert found[y, x, 0] == floor(want + Fraction(1, 2)) and mask[y, x] == (want >= Fraction(255, 2))


@pytest.mark.parametrize(("height", "width", "top", "left"), [(4, 7, 1, 0), (7, 4, 0, 1), (5, 5, 0, 0), (6, 3, 0, 1)])
def test_a_picture_that_is_not_square_keeps_every_pixel_in_the_middle_of_black(height, width, top, left):
    picture = np.arange(1, height * width + 1).reshape(height, width)
    found = squared(picture)
    assert found.shape == (max(height, width),) * 2
    assert (found[top : top + height, left : left + width] == picture).all() and found.sum() == picture.sum()


def test_a_set_is_brought_to_the_size_asked_for(tmp_path):
    random = np.random.default_rng(1)
    for n, shape in enumerate([(20, 30), (16, 16), (40, 10)]):
        (tmp_path / "p").mkdir(exist_ok=True)
        Image.fromarray(random.integers(1, 256, (*shape, 3), dtype=np.uint8)).save(tmp_path / "p" / f"a_{n}.png")
        Image.fromarray(np.ones(shape, bool)).save(tmp_path / "p" / f"a_{n}_mask.png")
    found = data.segmentation(tmp_path, size=16)
    assert found.images.shape == (3, 16, 16, 3)
    assert [int(mask.any(axis=1).sum()) for mask in found.masks] == [10, 16, 16]  # 2.67 to 13.33, all, all
    assert [int(mask.any(axis=0).sum()) for mask in found.masks] == [16, 16, 4]  # all, all, 6 to 10

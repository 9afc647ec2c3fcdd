"""Augmentation: statistics, masks that follow their image, and no trace of the batch."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats

from netweight import data
from netweight.data import Augmentation
from netweight.data._segmentation._augment import DRAWS, MEAN, STD
from netweight.data._segmentation._draws import uniforms
from netweight.errors import DataError

NEVER = {"flip": 0.0, "light": 0.0, "move": 0.0}


def seen(images):
    """Undo mean and deviation: 0 to 1 again."""
    return images * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]


def batch(count=16, height=32, width=32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 3, height, width, generator=generator)
    masks = torch.rand(count, height, width, generator=generator) < 0.3
    return images, masks


def splitmix(state):
    """Steele, Lea, Flood 2014, in Python's own integers."""
    word = (1 << 64) - 1
    state = (state + 0x9E3779B97F4A7C15) & word
    z = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & word
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & word
    return z ^ (z >> 31)


@settings(max_examples=50, deadline=None)
@given(st.integers(-(2**63), 2**63), st.integers(0, 10**6), st.lists(st.integers(0, 2**40), min_size=1, max_size=5))
def test_draws_are_splitmix_of_seed_epoch_and_index(seed, epoch, indices):
    word, golden = (1 << 64) - 1, 0x9E3779B97F4A7C15
    found = uniforms(seed, epoch, indices, 4)
    for row, index in zip(found, indices, strict=True):
        key = splitmix((splitmix((splitmix(seed & word) + epoch) & word) + index * golden) & word)
        want = [(splitmix((key + n * golden) & word) >> 40) / 2**24 for n in range(1, 5)]
        assert row.tolist() == want


def test_splitmix_gives_its_published_numbers():
    state, numbers = 1234567, []
    for _ in range(3):  # the stream of seed 1234567, as implementations list it
        numbers.append(splitmix(state))
        state += 0x9E3779B97F4A7C15
    assert numbers == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_draws_are_uniform_and_independent():
    found = uniforms(3, 7, range(20_000), len(DRAWS)).astype(float)
    for column in found.T:
        assert stats.kstest(column, "uniform").pvalue > 1e-4
    later, other = uniforms(3, 8, range(20_000), len(DRAWS)), uniforms(4, 7, range(20_000), len(DRAWS))
    together = np.corrcoef(np.concatenate([found, later, other], axis=1).T)
    assert abs(together - np.eye(len(together))).max() < 5 / math.sqrt(20_000)
    assert abs(np.corrcoef(found[:-1, 0], found[1:, 0])[0, 1]) < 5 / math.sqrt(20_000)


def test_without_changes_it_is_normalise_and_that_is_mean_and_deviation():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 9, 7, 3), dtype=np.uint8)
    plain = data.normalise(pixels)
    want = (pixels / 255 - np.array(MEAN)) / np.array(STD)
    assert plain.shape == (5, 3, 9, 7) and plain.is_contiguous()
    np.testing.assert_allclose(plain.permute(0, 2, 3, 1).numpy(), want, atol=2e-6)  # float32
    masks = torch.zeros(5, 9, 7, dtype=torch.bool)
    images, same = data.augment(
        data.to_unit(pixels), masks, seed=0, epoch=0, indices=range(5), settings=Augmentation(**NEVER)
    )
    assert torch.equal(images, plain) and torch.equal(same, masks)


def test_what_is_given_stays_as_it_is():
    images, masks = batch()
    before = images.clone(), masks.clone()
    for epoch in range(3):
        data.augment(images, masks, seed=0, epoch=epoch, indices=range(16))
    assert torch.equal(images, before[0]) and torch.equal(masks, before[1])


def test_a_sample_is_changed_alike_in_every_batch():
    images, masks = batch(24, 33, 29)
    whole = data.augment(images, masks, seed=5, epoch=2, indices=range(24))
    order = torch.randperm(24, generator=torch.Generator().manual_seed(1))
    mixed = data.augment(images[order], masks[order], seed=5, epoch=2, indices=order)
    assert torch.equal(mixed[0], whole[0][order]) and torch.equal(mixed[1], whole[1][order])
    for i in range(24):
        alone = data.augment(images[i : i + 1], masks[i : i + 1], seed=5, epoch=2, indices=[i])
        assert torch.equal(alone[0][0], whole[0][i]) and torch.equal(alone[1][0], whole[1][i])


@pytest.mark.parametrize(("seed", "epoch"), [(5, 3), (6, 2)])
def test_another_epoch_or_seed_changes_most_samples_otherwise(seed, epoch):
    images, masks = batch(64)
    one = data.augment(images, masks, seed=5, epoch=2, indices=range(64))[0]
    other = data.augment(images, masks, seed=seed, epoch=epoch, indices=range(64))[0]
    assert (one != other).flatten(1).any(1).float().mean() > 0.7


@pytest.mark.parametrize("name", ["flip", "light", "move"])
def test_probabilities_are_those_asked_for(name):
    count = 4000
    images = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)).expand(count, 3, 8, 8) * 0.5 + 0.2
    masks = torch.zeros(count, 8, 8, dtype=torch.bool)
    asked = Augmentation(**(NEVER | {name: 0.3}))
    found = seen(data.augment(images, masks, seed=1, epoch=0, indices=range(count), settings=asked)[0])
    if name != "flip":
        changed = (found - images).abs().flatten(1).amax(1) > 1e-4
        assert abs(changed.float().mean() - 0.3) < 5 * math.sqrt(0.3 * 0.7 / count)
        return
    for axes, share in (([-1], 0.21), ([-2], 0.21), ([-1, -2], 0.09)):
        hit = (found - images.flip(axes)).abs().flatten(1).amax(1) < 1e-5
        assert abs(hit.float().mean() - share) < 5 * math.sqrt(share / count)


def test_defaults_are_the_protocols():
    asked = Augmentation()
    assert (asked.flip, asked.light, asked.move) == (0.5, 0.3, 0.3)
    assert (asked.shift, asked.scale, asked.rotate) == (0.1, 0.1, 15.0)


def test_light_is_a_factor_and_a_sum_within_limits():
    images = torch.tensor([0.4, 0.5, 0.6])[None, :, None, None].expand(2000, 3, 2, 2).contiguous()
    asked = Augmentation(flip=0.0, light=1.0, move=0.0)
    found = seen(data.augment(images, images[:, 0] > 9, seed=0, epoch=0, indices=range(2000), settings=asked)[0])
    low, middle, high = found[:, :, 0, 0].double().unbind(1)
    factor, added = (high - low) / 0.2, middle - 0.5 * (high - low) / 0.2
    for values, centre in ((factor, 1), (added, 0)):
        assert stats.kstest((values.numpy() - centre + 0.2) / 0.4, "uniform").pvalue > 1e-4
    bright = seen(data.augment(images + 0.4, images[:, 0] > 9, seed=0, epoch=0, indices=range(2000), settings=asked)[0])
    assert bright.max() < 1 + 1e-5  # clamped


@pytest.mark.parametrize("asked", [Augmentation(), Augmentation(move=1.0), Augmentation(move=1.0, rotate=90.0)])
@pytest.mark.parametrize("shape", [(64, 64), (48, 80)])
def test_a_mask_moves_with_its_image(asked, shape):
    """Masks of discs, put into the image too: after the change they still cover each other, but for the edge."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    centres = np.random.default_rng(0).uniform((16, 16), (shape[0] - 16, shape[1] - 16), (64, 2))
    masks = torch.from_numpy(np.stack([(y - a) ** 2 + (x - b) ** 2 < 10**2 for a, b in centres]))
    images = masks[:, None].float().expand(-1, 3, -1, -1).contiguous()
    quiet = asked.model_copy(update={"light": 0.0})
    found, moved = data.augment(images, masks, seed=2, epoch=0, indices=range(64), settings=quiet)
    drawn = seen(found)[:, 0] > 0.5
    assert moved.dtype == torch.bool
    edge = (drawn ^ moved).flatten(1).sum(1)
    assert edge.max() <= 16  # of some 60 pixels of edge: nearest and linear differ by less than half a pixel
    assert moved.flatten(1).any(1).all() and not torch.equal(moved, masks)


def test_moving_agrees_with_scipy():
    """The affine map of each sample built anew from its draws, as rows and columns in pixels."""
    images, masks = batch(12, 40, 56)
    asked = Augmentation(flip=0.0, light=0.0, move=1.0)
    found = seen(data.augment(images, masks, seed=9, epoch=4, indices=range(12), settings=asked)[0]).numpy()
    for i, row in enumerate(uniforms(9, 4, range(12), len(DRAWS))):
        drawn = {name: 2 * float(value) - 1 for name, value in zip(DRAWS, row, strict=True)}
        angle, scale = math.radians(15 * drawn["turn"]), 1 + 0.1 * drawn["scale"]
        middle = np.array([19.5, 27.5])
        shift = np.array([0.1 * drawn["down"] * 40, 0.1 * drawn["right"] * 56])
        back = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]) / scale
        want = [
            ndimage.affine_transform(channel, back, middle - back @ (middle + shift), order=1, mode="grid-constant")
            for channel in images[i].numpy()
        ]
        np.testing.assert_allclose(found[i], want, atol=2e-4)  # coordinates are float32


def test_number_masks_keep_their_type():
    images, masks = batch(4)
    for dtype in (torch.uint8, torch.float32):
        found = data.augment(images, masks.to(dtype), seed=0, epoch=0, indices=range(4))[1]
        assert found.dtype == dtype and set(found.unique().tolist()) <= {0, 1}


def test_what_does_not_belong_together_is_refused():
    images, masks = batch(4)
    with pytest.raises(DataError, match="do not belong together"):
        data.augment(images, masks[:3], seed=0, epoch=0, indices=range(4))
    with pytest.raises(DataError, match="3 indices do not belong together"):
        data.augment(images, masks, seed=0, epoch=0, indices=range(3))
    with pytest.raises(DataError, match="needed: uint8"):
        data.normalise(np.zeros((2, 3, 4, 4), np.uint8))

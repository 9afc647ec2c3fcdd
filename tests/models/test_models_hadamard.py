"""Hadamard matrices are what their definitions say; every rotation is orthogonal, and applied fast as the matrix it is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from netweight.errors import ModelError
from netweight.models._hadamard import Rotation, hadamard, paley_part
from oracles import hadamard as oracle

SIZES = range(1, 201)
# 4 k up to 200 for which neither construction gives a matrix: q + 1 and 2 (q + 1) for powers of primes would give three of them
WITHOUT = {52, 92, 100, 116, 156, 172, 184, 188}


def rotation(n: int, seed: int = 0) -> Rotation:
    return Rotation.random(n, torch.Generator().manual_seed(seed))


def matrix(turning: Rotation) -> np.ndarray:
    """(n, n) float64: what turns a row from the right."""
    return turning.turned(torch.eye(turning.width, dtype=torch.float64)).numpy()


@pytest.mark.parametrize("n", SIZES)
def test_rows_are_at_right_angles_exactly(n):
    found = hadamard(n)
    assert (found is None) == ((n > 2 and n % 4 != 0) or n in WITHOUT)
    if found is not None:
        h = found.numpy().astype(np.int64)
        assert set(np.unique(h)) <= {-1, 1}
        assert np.array_equal(h @ h.T, n * np.eye(n, dtype=np.int64))


@pytest.mark.parametrize("n", [*range(1, 65), 72, 120])
def test_a_matrix_is_its_definition_entry_by_entry(n):
    found, want = hadamard(n), oracle.known(n)
    assert (found is None) == (want is None)
    assert found is None or np.array_equal(found.numpy(), want)


@pytest.mark.parametrize("n", [576, 192, 1536, 960, 896, 3072])
def test_widths_of_real_models_have_one(n):
    found = hadamard(n)
    assert found is not None
    h = found.double()
    assert torch.equal(h @ h.T, n * torch.eye(n, dtype=torch.float64))  # sums of n ones: exact in float64


def test_which_widths_have_none():
    assert {n for n in SIZES if paley_part(n) is None and n % 4 == 0} == WITHOUT
    assert all(paley_part(n) is None for n in SIZES if n % 4 and n > 2)  # there is none of such an order at all
    assert [paley_part(n) for n in (1, 2, 64, 576, 1536, 960)] == [1, 1, 1, 36, 12, 60]


@pytest.mark.parametrize("n", SIZES)
def test_a_rotation_is_orthogonal(n):
    r = matrix(rotation(n, n))
    assert np.abs(r @ r.T - np.eye(n)).max() < 1e-13  # a few hundred roundings of 1e-16


@pytest.mark.parametrize("n", [1, 2, 12, 20, 28, 36, 64, 72, 192])
def test_a_rotation_is_signs_times_a_hadamard_matrix_of_length_one(n):
    turning = rotation(n, 3)
    assert set(turning.signs_N.tolist()) <= {-1.0, 1.0}
    want = turning.signs_N.numpy()[:, None] * oracle.known(n) / np.sqrt(n)
    np.testing.assert_allclose(matrix(turning), want, rtol=0, atol=1e-15)


@pytest.mark.parametrize("n", [3, 7, 13, 26, 52])
def test_what_has_none_is_mixed_by_a_random_matrix_of_its_odd_part(n):
    one, two, again = matrix(rotation(n, 1)), matrix(rotation(n, 2)), matrix(rotation(n, 1))
    assert np.array_equal(one, again)
    assert np.abs(np.abs(one) - np.abs(two)).max() > 0.01 / np.sqrt(n)  # not only other signs
    assert np.abs(one).max() < 1


def test_random_signs_come_of_the_generator():
    one, two = rotation(64, 1).signs_N, rotation(64, 2).signs_N
    assert torch.equal(one, rotation(64, 1).signs_N) and 10 < int((one != two).sum()) < 54
    assert 10 < int((one > 0).sum()) < 54


def test_every_run_of_channels_is_turned_alike():
    turning, x = rotation(12), torch.randn(2, 5, 36, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    want = np.concatenate([x.numpy()[..., at : at + 12] @ matrix(turning) for at in (0, 12, 24)], -1)
    np.testing.assert_allclose(turning.turned(x).numpy(), want, rtol=0, atol=1e-14)
    with pytest.raises(ModelError, match="40 channels do not divide into runs of 12"):
        turning.turned(torch.ones(1, 40))


@pytest.mark.parametrize("n", [0, -4])
def test_a_width_below_one_is_refused(n):
    with pytest.raises(ModelError, match=f"1 or more, not {n}"):
        rotation(n)

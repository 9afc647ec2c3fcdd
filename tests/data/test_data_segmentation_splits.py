"""Splits go by patient, whatever the data."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netweight import data
from netweight.data._segmentation._folds import TERCILES, _dealt
from netweight.errors import DataError


def slices(counts, *, seed=0, sites=("",), shuffled=True):
    """A tiny set: ``counts`` gives each patient's (slices, positive slices); every picture differs."""
    random = np.random.default_rng(seed)
    rows = [(f"p{i:03d}", n < hit, n) for i, (total, hit) in enumerate(counts) for n in range(total)]
    if shuffled:
        rows = [rows[i] for i in random.permutation(len(rows))]
    images = random.integers(0, 256, (len(rows), 4, 4, 3), dtype=np.uint8)
    masks = np.zeros((len(rows), 4, 4), bool)
    masks[[i for i, row in enumerate(rows) if row[1]], 1, 2] = True
    patients = [row[0] for row in rows]
    where = [sites[int(patient[1:]) % len(sites)] for patient in patients]
    return data.from_arrays(images, masks, patients, sites=where, names=[f"{r[0]}_{r[2]}" for r in rows])


COUNTS = st.lists(
    st.tuples(st.integers(1, 6), st.integers(1, 6)).map(lambda c: (c[0], min(c))), min_size=8, max_size=40
)


def patients_of(found, indices):
    return {found.patients[i] for i in indices}


@settings(max_examples=60, deadline=None)
@given(COUNTS, st.integers(2, 4), st.integers(0, 2**31))
def test_folds_part_patients_and_hold_each_out_once(counts, k, seed):
    found = slices(counts, seed=seed)
    splits = data.folds(found, k, seed=seed)
    held = Counter()
    for split in splits:
        parts = [patients_of(found, part) for part in (split.train, split.validation, split.test)]
        assert [sorted(p) for p in parts] == [
            list(split.train_patients), list(split.validation_patients), list(split.test_patients)
        ]  # fmt: skip
        assert sum(map(len, parts)) == len(set.union(*parts)) == len(counts)
        assert sorted(split.train + split.validation + split.test) == list(range(len(found)))
        assert 0 <= len(parts[2]) - len(parts[1]) <= 1
        held.update(parts[1] | parts[2])
    assert set(held.values()) == {1} and len(held) == len(counts)
    sizes = [len(split.train_patients) for split in splits]
    assert max(sizes) - min(sizes) <= 1


@settings(max_examples=30, deadline=None)
@given(COUNTS, st.integers(0, 2**31))
def test_folds_hold_their_part_of_every_tercile(counts, seed):
    found = slices(counts, seed=seed)
    share = {f"p{i:03d}": hit / total for i, (total, hit) in enumerate(counts)}
    low, high = np.quantile(list(share.values()), TERCILES)
    for group in (lambda s: s <= low, lambda s: low < s <= high, lambda s: s > high):
        here = {patient for patient, value in share.items() if group(value)}
        counted = [
            len(here & (set(s.validation_patients) | set(s.test_patients))) for s in data.folds(found, 4, seed=seed)
        ]
        assert max(counted) - min(counted) <= 1


def test_a_split_depends_on_the_seed_and_not_on_the_order_of_slices():
    counts = [(3, 1 + i % 3) for i in range(20)]
    ordered, mixed = slices(counts, shuffled=False), slices(counts, shuffled=True, seed=4)
    a, b = data.folds(ordered, 5, seed=1), data.folds(mixed, 5, seed=1)
    assert [s.test_patients for s in a] == [s.test_patients for s in b]
    assert [s.sha256 for s in a] == [s.sha256 for s in data.folds(ordered, 5, seed=1)]
    assert data.folds(ordered, 5, seed=2)[0].test_patients != a[0].test_patients
    assert len({s.sha256 for s in a}) == 5


def test_the_hash_follows_the_data_and_the_parts():
    found, other = slices([(2, 1)] * 12), slices([(2, 1)] * 12, seed=1)
    one = data.holdout(found, seed=0)
    by_hand = data.split(found, train=one.train, validation=one.validation, test=one.test)
    assert by_hand.sha256 == one.sha256 and one.data_sha256 == found.sha256
    assert data.split(found, train=one.train, validation=one.test, test=one.validation).sha256 != one.sha256
    assert data.holdout(other, seed=0).sha256 != one.sha256


@pytest.mark.parametrize(("patients", "shares"), [(100, (0.8, 0.1, 0.1)), (93, (0.8, 0.1, 0.1)), (50, (0.5, 0.3, 0.2))])
def test_a_holdout_has_its_shares(patients, shares):
    split = data.holdout(slices([(2, 1)] * patients), shares, seed=7)
    for part, share in zip((split.train_patients, split.validation_patients, split.test_patients), shares, strict=True):
        assert abs(len(part) - share * patients) <= 1


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 200), st.lists(st.integers(1, 9), min_size=2, max_size=6))
def test_dealing_never_strays_from_the_shares(count, weights):
    shares = [weight / sum(weights) for weight in weights]
    parts = _dealt([str(i) for i in range(count)], shares)
    assert sorted(i for part in parts for i in part) == sorted(str(i) for i in range(count))
    for part, share in zip(parts, shares, strict=True):
        assert abs(len(part) - share * count) < len(shares)


def test_a_patient_in_two_parts_is_refused():
    found = slices([(3, 1)] * 6, shuffled=False)
    with pytest.raises(DataError, match=r"train and test share 1 patient \(p000\); a split goes by patient"):
        data.split(found, train=[0, 1, 3, 4, 5], validation=[6, 7, 8], test=[2, 9, 10, 11])
    with pytest.raises(DataError, match="validation and test share 1 patient"):
        data.split(found, train=[0, 1, 2], validation=[3, 4], test=[5, 6, 7])
    good = data.holdout(found, (0.4, 0.3, 0.3))
    with pytest.raises(DataError, match="train and validation share .* patient"):
        replace(good, validation_patients=good.train_patients)
    with pytest.raises(DataError, match="train and test share .* slice"):
        replace(good, test=(*good.test, good.train[0]))
    with pytest.raises(DataError, match="validation is empty"):
        replace(good, validation=())


def test_a_part_without_positives_is_refused_with_the_way_out():
    few = slices([(4, 2)] * 2 + [(4, 0)] * 18)
    with pytest.raises(DataError, match="fold . of 5: none of the .* slices of .* shows a lesion.*ask for fewer folds"):
        data.folds(few, 5)
    with pytest.raises(DataError, match="holdout: none of the .* slices"):
        data.holdout(few)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda d: data.folds(d, 1), "k = 1: there are at least 2 folds"),
        (lambda d: data.folds(d, 7), "has 12 patients, too few for 7 folds.*at most 6 folds"),
        (lambda d: data.holdout(d, (0.5, 0.5)), "three positive numbers of sum 1"),
        (lambda d: data.holdout(d, (0.9, 0.2, 0.1)), "three positive numbers of sum 1"),
        (lambda d: data.holdout(d, (1.0, 0.1, -0.1)), "three positive numbers of sum 1"),
        (lambda d: data.leave_one_site_out(d), "sites are not known; leaving one out needs at least two"),
        (lambda d: data.split(d, train=[0], validation=[99], test=[2]), "there is no slice 99"),
        (lambda d: data.split(d, train=[0], validation=[-1], test=[2]), "there is no slice -1"),
    ],
)
def test_what_cannot_be_split_is_said(ask, message):
    with pytest.raises(DataError, match=message):
        ask(slices([(2, 1)] * 12))


def test_each_site_is_left_out_once():
    found = slices([(3, 2)] * 30, sites=("north", "south", "west"))
    splits = data.leave_one_site_out(found, seed=3)
    for split, site in zip(splits, ("north", "south", "west"), strict=True):
        assert {found.sites[i] for i in split.test} == {site} and len(split.test_patients) == 10
        assert site not in {found.sites[i] for i in split.train + split.validation}
        assert (len(split.train_patients), len(split.validation_patients)) == (18, 2)
    assert [s.name for s in data.leave_one_site_out(found, sites=["west"])] == ["without site west"]
    with pytest.raises(DataError, match="has no site 'east'; it has north, south, west"):
        data.leave_one_site_out(found, sites=["east"])
    with pytest.raises(DataError, match="validation = 1"):
        data.leave_one_site_out(found, validation=1)


def test_equal_images_across_parts_are_listed_and_blank_ones_are_not():
    found = slices([(3, 1)] * 6, shuffled=False)
    images = found.images.copy()
    images[4] = images[0]  # p001 and p000
    images[2] = images[0]  # p000 itself
    images[[7, 10]] = 0  # blank: p002 and p003
    twins = data.from_arrays(images, found.masks.copy(), found.patients, names=found.names)
    split = data.split(twins, train=[0, 1, 2, 9, 10, 11], validation=[3, 4, 5], test=[6, 7, 8])
    assert split.duplicates == ((0, 4), (2, 4)) and split.provenance["duplicates"] == 2
    assert "2 pairs of equal images across parts" in split.describe()
    apart = data.split(twins, train=[0, 1, 2, 3, 4, 5], validation=[9, 10, 11], test=[6, 7, 8])
    assert apart.duplicates == () and "equal images" not in apart.describe()


def test_a_split_tells_what_it_is():
    split = data.holdout(slices([(4, 1)] * 20), seed=5)
    assert split.positives == (16, 2, 2)
    assert split.describe().startswith("holdout: train 16 patients, 64 slices (16 positive); validation 2 patients")
    assert split.provenance["patients"] == {"train": 16, "validation": 2, "test": 2}
    assert split.provenance["positive"]["test"] == 2 and split.provenance["seed"] == 5


def test_data_for_testing_only_is_not_split():
    found = replace(slices([(2, 1)] * 12), test_only="nobody knows whose they are")
    with pytest.raises(DataError, match="not split: nobody knows whose they are. Test on all of it"):
        data.folds(found)
    with pytest.raises(DataError, match="not split"):
        data.split(found, train=[0], validation=[1], test=[2])

"""Intervals and tests of pairs against scipy's own, of which each is the inverse or the enumeration."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from netweight.study import paired
from netweight.study._pairs import (
    differences,
    effect_size,
    fieller,
    seeds_for,
    seeds_needed,
    sign_flip,
    t_interval,
    t_test,
    wilcoxon,
)


@pytest.mark.parametrize("n", [2, 5, 12])
@pytest.mark.parametrize("seed", range(4))
def test_a_bound_of_a_ratio_is_where_a_t_test_of_d_minus_r_g_just_tells(n, seed):
    rng = np.random.default_rng(seed)
    g = rng.normal(1, 0.05, n)
    d = 0.9 * g + rng.normal(0, 0.03, n)
    ratio, low, high = fieller(d, g)
    assert ratio == pytest.approx(d.mean() / g.mean(), rel=1e-12)
    if low is None:  # even no g at all is not ruled out
        assert n == 2 and stats.ttest_1samp(g, 0).pvalue > 0.05
        return
    assert low < ratio < high
    for bound in (low, high):
        assert stats.ttest_1samp(d - bound * g, 0).pvalue == pytest.approx(0.05, rel=1e-6)


def test_a_ratio_to_what_is_not_told_from_nothing_has_no_bounds():
    g = np.array([0.5, -0.4, 0.3])
    assert stats.ttest_1samp(g, 0).pvalue > 0.05
    assert fieller(np.array([1.0, 1.1, 0.9]), g)[1:] == (None, None)


@pytest.mark.parametrize("n", [2, 5, 12])
def test_the_interval_of_a_mean_is_scipys(n):
    d = np.random.default_rng(n).normal(0.2, 1, n)
    found = t_interval(d)
    assert found == pytest.approx(tuple(stats.ttest_1samp(d, 0).confidence_interval(0.95)), rel=1e-9)


def enumerated(d: np.ndarray) -> float:
    return stats.permutation_test(
        (d,), lambda x, axis: x.sum(axis), permutation_type="samples", n_resamples=np.inf, vectorized=True
    ).pvalue


def test_known_sign_flips():
    assert sign_flip(np.array([1.0, 2.0, 3.0, 4.0, 5.0])) == 2 / 32  # all alike, or all turned
    assert sign_flip(np.array([1.0, -1.0])) == 1.0 and sign_flip(np.ones(1)) is None


@pytest.mark.parametrize("seed", range(6))
def test_the_sign_flip_test_is_scipys_over_all_signs(seed):
    rng = np.random.default_rng(seed)
    for d in (rng.normal(0.5, 1, 7), rng.integers(-2, 4, 8).astype(float)):  # without ties and with
        assert sign_flip(d) == pytest.approx(enumerated(d), rel=1e-12)


def test_of_many_numbers_random_signs_stand_for_all():
    d = np.random.default_rng(3).normal(0.6, 1, 17)
    want = enumerated(d)
    assert 0.05 < want < 0.5
    assert sign_flip(d) == pytest.approx(want, abs=4 * math.sqrt(want * (1 - want) / 100_000))  # of the draws


@pytest.mark.parametrize("shift, comparisons", [(0.6, 1), (-0.8, 1), (3.0, 1), (-0.8, 20)])
def test_seeds_needed_are_the_fewest_with_which_four_studies_of_five_find_it(shift, comparisons):
    d = np.random.default_rng(1).normal(shift, 1, 6)
    effect = d.mean() / d.std(ddof=1)
    needed = seeds_needed(d, comparisons)

    def found(n: int) -> float:
        edge = stats.t.ppf(1 - 0.025 / comparisons, n - 1)
        away = stats.nct(n - 1, abs(effect) * math.sqrt(n))
        return away.sf(edge) + away.cdf(-edge)

    assert needed is not None and found(needed) >= 0.8 and (needed == 2 or found(needed - 1) < 0.8)


def test_that_power_is_how_often_drawn_studies_find_it():
    needed, rng = seeds_for(0.9, 3), np.random.default_rng(0)
    studies = rng.normal(0.9, 1, (4000, needed))
    p = stats.ttest_1samp(studies, 0, axis=1).pvalue
    assert abs((p < 0.05 / 3).mean() - 0.8) < 0.04


@pytest.mark.parametrize("n", [2, 3, 9])
def test_students_test_is_scipys(n):
    d = np.random.default_rng(n).normal(0.4, 1, n)
    assert t_test(d) == pytest.approx(stats.ttest_1samp(d, 0).pvalue, rel=1e-12)
    assert t_test(np.zeros(n)) is t_test(np.ones(n)) is t_test(np.ones(1)) is None  # their spread is not known


@pytest.mark.parametrize("n, overlap", [(5, 0.125), (4, 0.4)])
def test_folds_that_share_patients_are_told_apart_as_often_as_said(n, overlap):
    """Differences with a correlation of r have a mean whose variance is s^2 (1 / n + r / (1 - r)): that is the overlap."""
    rng, r, studies = np.random.default_rng(0), overlap / (1 + overlap), 2000
    d = math.sqrt(r) * rng.normal(size=(studies, 1)) + math.sqrt(1 - r) * rng.normal(size=(studies, n))
    rates = [np.mean([t_test(one, given) < 0.05 for one in d]) for given in (overlap, 0.0)]
    assert abs(rates[0] - 0.05) < 4 * math.sqrt(0.05 * 0.95 / studies) and rates[1] > 0.08
    low, high = t_interval(d[0], overlap)
    assert (d[0].mean() - low) / d[0].std(ddof=1) == pytest.approx(
        stats.t.ppf(0.975, n - 1) * math.sqrt(1 / n + overlap)
    )
    assert t_test(d[0] - low, overlap) == pytest.approx(0.05) and high - d[0].mean() == pytest.approx(d[0].mean() - low)
    _, low, high = effect_size(d[0], overlap)
    assert low < effect_size(d[0])[1] and high > effect_size(d[0])[2]


def test_more_folds_of_the_same_patients_do_not_settle_what_is_small():
    assert seeds_for(0.5) is not None and seeds_for(0.5, overlap=0.125) is None
    assert seeds_for(1.5) < seeds_for(1.5, overlap=0.125)


@pytest.mark.parametrize("ratio", [1.0, 1.5])
def test_a_ratio_that_is_the_same_in_every_pair_has_no_bounds_that_anything_could_be_said_of(ratio):
    for seed in range(20):
        g = np.round(np.random.default_rng(seed).uniform(0.5, 1, 3), 4)
        assert fieller(ratio * g, g) == (pytest.approx(ratio), None, None)


def test_ties_are_ties_whatever_rounding_makes_of_them():
    a, b = (np.array(x) for x in ([0.8, 0.9, 0.7, 0.5, 0.4, 0.3], [0.7, 0.8, 0.6, 0.6, 0.3, 0.2]))
    assert len(set(a - b)) > 2 and wilcoxon(a - b) != wilcoxon(differences(a, b))
    assert wilcoxon(differences(a, b)) == wilcoxon(np.array([1.0, 1, 1, -1, 1, 1]))
    assert differences(a, b) == pytest.approx(a - b, abs=1e-12) and not differences(np.zeros(2), np.zeros(2)).any()


def test_a_difference_too_small_for_any_number_of_seeds_needs_none():
    assert seeds_needed(np.array([1.0, -1.0])) is seeds_needed(np.array([1.0])) is None
    assert seeds_needed(np.array([1.0, -1.0 + 1e-6])) is None


def test_a_comparison_holds_each_statistic_in_its_own_place():
    rng = np.random.default_rng(8)
    b = rng.normal(0.8, 0.05, 6)
    a = b + rng.normal(0.03, 0.02, 6)
    row = paired("a", a, "b", b, measure="m")
    assert (row.n, row.value, row.baseline_value) == (6, pytest.approx(a.mean()), pytest.approx(b.mean()))
    test = stats.ttest_rel(a, b)
    assert row.interval == pytest.approx(tuple(test.confidence_interval(0.95)), rel=1e-9)
    assert row.d_z == pytest.approx(test.statistic / math.sqrt(6), rel=1e-9)
    assert row.wilcoxon_p == pytest.approx(stats.wilcoxon(a, b, method="exact").pvalue, rel=1e-12)
    assert row.sign_flip_p == pytest.approx(enumerated(a - b), rel=1e-12)
    for bound in row.ratio_interval:
        assert stats.ttest_rel(a, bound * b).pvalue == pytest.approx(0.05, rel=1e-6)

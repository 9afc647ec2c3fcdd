"""Intervals: equal to scipy and to the formula on the same resamples, honest where there is nothing to say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from netweight.evaluate import _statistics
from netweight.evaluate._samples import Additive, Sampled, exp_ratio, median, ratio, spearman
from netweight.evaluate._statistics import bca, binomial_interval, median_interval, percentile, resamples_of
from oracles import statistics_bootstrap as oracle

ROUNDING = 1e-9  # relative: sums of 40 float64 terms in another order differ by about 1e-14


def sample_mean(values):
    return Additive(np.stack([values, np.ones_like(values)], 1), ratio, "items")


def bca_of(sample, seed=0, resamples=999):
    rng = np.random.default_rng(seed)
    replicates = np.concatenate([sample.at(part) for part in resamples_of(sample.n, resamples, rng)])
    return bca(sample.value(), replicates, sample.leave_one_out(), items=sample.items)


@pytest.mark.parametrize("draw", ["normal", "exponential", "lognormal", "bernoulli", "heavy-tailed"])
def test_bca_of_a_mean_equals_scipy_on_the_same_resamples(draw):
    rng = np.random.default_rng(7)
    values = {
        "normal": rng.normal(5, 2, 40),
        "exponential": rng.exponential(1, 40),
        "lognormal": rng.lognormal(0, 1, 40),
        "bernoulli": (rng.random(40) < 0.3).astype(float),
        "heavy-tailed": rng.standard_t(2, 40),
    }[draw]
    ours = bca_of(sample_mean(values))
    want = stats.bootstrap(
        (values,), np.mean, n_resamples=999, method="BCa", rng=np.random.default_rng(0)
    ).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((want.low, want.high), rel=ROUNDING)
    assert ours.method == "BCa bootstrap over 40 items, 999 resamples"


def test_bca_of_a_ratio_resamples_numerator_and_denominator_together_as_scipy_does_when_paired():
    rng = np.random.default_rng(3)
    tokens = rng.integers(5, 200, 30).astype(float)
    nll = tokens * rng.normal(3, 0.5, 30)
    ours = bca_of(Additive(np.stack([nll, tokens], 1), exp_ratio, "documents"))
    want = stats.bootstrap(
        (nll, tokens),
        lambda a, b, axis: np.exp(a.sum(axis) / b.sum(axis)),
        paired=True,
        n_resamples=999,
        method="BCa",
        rng=np.random.default_rng(0),
    ).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((want.low, want.high), rel=ROUNDING)


def test_bca_of_a_rank_correlation_equals_scipy():
    rng = np.random.default_rng(5)
    x = rng.normal(size=25)
    y = np.round(x + rng.normal(size=25))  # rounded: ties
    ours = bca_of(Sampled(np.stack([x, y], 1), spearman, "pairs"), resamples=299)
    want = stats.bootstrap(
        (x, y),
        lambda a, b: stats.spearmanr(a, b)[0],
        paired=True,
        vectorized=False,
        n_resamples=299,
        method="BCa",
        rng=np.random.default_rng(0),
    ).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((want.low, want.high), rel=ROUNDING)


def test_bca_equals_the_formula_written_out():
    values = np.random.default_rng(1).exponential(1, 15)
    resamples = np.random.default_rng(2).integers(0, 15, (400, 15))
    sample = sample_mean(values)
    ours = bca(sample.value(), sample.at(resamples), sample.leave_one_out(), items="items")
    want = oracle.bca_bounds(values.tolist(), lambda v: math.fsum(v) / len(v), resamples.tolist(), 0.95)
    assert (ours.low, ours.high) == pytest.approx(want, rel=ROUNDING)


@pytest.mark.parametrize("nudge", [-1, 1])
def test_replicates_that_differ_from_the_value_by_rounding_are_ties(nudge):
    """Of three items two resamples in nine are the items themselves in another order, added up to the value but for the last bit."""
    rng = np.random.default_rng(0)
    value, jackknife = 0.7, np.array([0.6, 0.75, 0.8])
    replicates = rng.normal(value, 0.1, 2000)
    replicates[rng.random(2000) < 2 / 9] = value
    tied = bca(value, replicates, jackknife, items="items")
    nearly = np.where(replicates == value, np.nextafter(value, nudge * np.inf), replicates)
    assert bca(value, nearly, jackknife, items="items") == tied
    assert bca(value, np.where(replicates == value, value + nudge * 1e-9, replicates), jackknife, items="items") != tied


def test_leaving_one_out_equals_deleting_it():
    rng = np.random.default_rng(0)
    values = rng.random((12, 2))
    for sample in (
        Additive(values, exp_ratio, "items"),
        Sampled(values, spearman, "items"),
        Sampled(values, median, "i"),
    ):
        deleted = [type(sample)(np.delete(values, i, 0), *sample_statistic(sample), "items").value() for i in range(12)]
        np.testing.assert_allclose(sample.leave_one_out(), deleted, rtol=ROUNDING)


def sample_statistic(sample):
    return (sample.of_sums,) if isinstance(sample, Additive) else (sample.of_samples,)


def test_chunks_of_resamples_do_not_change_them(monkeypatch):
    whole = next(resamples_of(7, 100, np.random.default_rng(0)))
    monkeypatch.setattr(_statistics, "CHUNK", 7 * 9)
    parts = list(resamples_of(7, 100, np.random.default_rng(0)))
    assert len(parts) == 12
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_one_item_has_no_interval_and_says_so():
    found = bca(3.0, np.full(100, 3.0), np.array([3.0]), items="documents")
    assert (found.low, found.high) == (None, None)
    assert "1 documents" in found.method and "at least 2" in found.method


def test_items_all_alike_give_no_width_and_a_warning():
    found = bca_of(sample_mean(np.full(50, 2.5)))
    assert (found.low, found.high) == (2.5, 2.5)
    assert "all 50 items alike" in found.method and "nothing is known" in found.note


def test_items_alike_up_to_rounding_count_as_alike():
    tokens = np.array([3.0, 7.0, 11.0, 13.0])
    found = bca_of(Additive(np.stack([0.1 * tokens, tokens], 1), ratio, "documents"))
    assert found.method.startswith("no width")


def test_few_items_carry_a_warning():
    found = bca_of(sample_mean(np.array([1.0, 2.0, 4.0, 9.0])))
    assert found.low is not None and "only 4 items" in found.note
    assert not bca_of(sample_mean(np.random.default_rng(0).random(30))).note


def test_replicates_on_one_side_fall_back_to_the_percentile_interval_by_name():
    found = bca(10.0, np.linspace(0, 9, 1000), np.linspace(0, 1, 30), items="items")
    assert found.method.startswith("percentile") and "BCa undefined" in found.note
    assert (found.low, found.high) == pytest.approx((0.225, 8.775))


def test_a_statistic_undefined_on_most_resamples_has_no_interval():
    replicates = np.where(np.arange(100) < 20, np.nan, np.linspace(0, 1, 100))
    found = bca(0.5, replicates, np.linspace(0.4, 0.6, 30), items="pairs")
    assert found.low is None and "undefined on 20 of 100" in found.method


def test_the_exact_binomial_interval_of_no_error_in_n_is_the_known_formula():
    found = binomial_interval(30, 30, items="questions")
    assert found.high == 1.0
    assert found.low == pytest.approx(0.025 ** (1 / 30))  # P(30 of 30) = low^30 = 2.5 %


@pytest.mark.parametrize("n, k", [(6, 1), (8, 1), (9, 2), (10, 2), (20, 6), (51, 19)])
def test_a_median_is_bounded_by_the_tightest_order_statistics_that_reach_95_percent(n, k):
    found = median_interval(np.arange(n, 0, -1.0), items="repetitions")
    assert (found.low, found.high) == (k, n + 1 - k)
    assert oracle.median_coverage(n, k) >= 0.95 > oracle.median_coverage(n, k + 1)
    assert f"{oracle.median_coverage(n, k):.3f}" in found.method


@pytest.mark.parametrize("n", [1, 2, 5])
def test_five_values_cannot_bound_a_median(n):
    assert median_interval(np.arange(float(n)), items="repetitions").low is None


def test_the_percentile_interval_takes_the_replicates_own_quantiles():
    found = percentile(0.0, np.arange(1001.0), n=9, items="repetitions")
    assert (found.low, found.high) == pytest.approx((25.0, 975.0))

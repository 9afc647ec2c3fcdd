"""Statistics of pairs: equal to scipy's or to brute force, with intervals that hold the truth as often as they say."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import special, stats

from netweight.errors import DataError
from netweight.study import corrected, lost, paired
from netweight.study._pairs import effect_size, wilcoxon

# Test AUPRC of a 4M Swin and CNN over five folds, 16 bits and NVFP4: the published code's own table
SWIN, SWIN_FP4 = (0.7038, 0.8509, 0.7241, 0.8880, 0.7956), (0.7671, 0.8347, 0.7055, 0.8855, 0.8047)
CNN, CNN_FP4 = (0.6973, 0.8293, 0.7211, 0.6855, 0.8013), (0.5800, 0.7998, 0.7554, 0.6871, 0.8039)


@pytest.mark.parametrize("n", [3, 6, 12])
def test_the_signed_rank_test_without_ties_is_scipys_exact_one(n):
    for seed in range(5):
        d = np.random.default_rng(seed).normal(0.5, 1, n)
        assert wilcoxon(d) == pytest.approx(stats.wilcoxon(d, method="exact").pvalue, rel=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_the_signed_rank_test_with_ties_and_zeros_goes_through_all_signs(seed):
    d = np.random.default_rng(seed).integers(-3, 5, 9).astype(float)
    kept = d[d != 0]
    ranks = stats.rankdata(np.abs(kept))
    centre = ranks.sum() / 2
    observed = abs(ranks[kept > 0].sum() - centre)
    every = [abs(ranks @ np.array(signs) - centre) for signs in itertools.product((0, 1), repeat=len(kept))]
    assert wilcoxon(d) == pytest.approx(np.mean(np.array(every) >= observed - 1e-9), rel=1e-12)


def test_differences_of_nothing_tell_nothing():
    assert wilcoxon(np.zeros(5)) == 1.0 and wilcoxon(np.ones(1)) is None
    assert effect_size(np.zeros(5)) == effect_size(np.full(4, 0.1)) == effect_size(np.ones(1)) == (None, None, None)


@pytest.mark.parametrize("n, shift", [(2, 0.1), (3, 2.0), (5, -0.4), (10, 0.0), (30, 1.0), (3, 20.0)])
def test_the_interval_of_an_effect_size_inverts_the_noncentral_t(n, shift):
    d = np.random.default_rng(n).normal(shift, 1, n)
    size, low, high = effect_size(d)
    assert size == pytest.approx(stats.ttest_1samp(d, 0).statistic / math.sqrt(n), rel=1e-12)
    sign = 1 if size > 0 else -1
    want = sorted(sign * special.nctdtrinc(n - 1, p, abs(size) * math.sqrt(n)) / math.sqrt(n) for p in (0.975, 0.025))
    assert (low, high) == pytest.approx(want, rel=1e-4, abs=1e-4)  # an integral over 200 nodes, for four digits


def test_the_interval_of_an_effect_size_holds_the_truth_as_often_as_it_says():
    rng, hits, trials = np.random.default_rng(0), 0, 200
    for _ in range(trials):
        _, low, high = effect_size(rng.normal(0.8, 1, 5))
        hits += low <= 0.8 <= high
    assert abs(hits / trials - 0.95) < 4 * math.sqrt(0.95 * 0.05 / trials)


def test_published_folds_do_not_tell_fp4_from_16_bits():
    swin = paired("FP4", SWIN_FP4, "16 bits", SWIN, measure="AUPRC")
    cnn = paired("FP4", CNN_FP4, "16 bits", CNN, measure="AUPRC")
    assert swin.difference == pytest.approx(0.0070, abs=5e-5) and cnn.difference == pytest.approx(-0.0217, abs=5e-5)
    assert swin.ratio == pytest.approx(1.009, abs=5e-4) and cnn.ratio == pytest.approx(0.971, abs=5e-4)
    for row, a, b in ((swin, SWIN_FP4, SWIN), (cnn, CNN_FP4, CNN)):
        d = np.subtract(a, b)
        assert row.interval == pytest.approx(stats.t.interval(0.95, 4, d.mean(), stats.sem(d)))
        assert row.interval[0] < 0 < row.interval[1] and row.ratio_interval[0] < 1 < row.ratio_interval[1]
        assert row.sign_flip_p >= 2 / 32 and row.wilcoxon_p == stats.wilcoxon(d, method="exact").pvalue
        assert row.bootstrap[0] < row.difference < row.bootstrap[1]
        assert row.ratio_bootstrap[0] < row.ratio < row.ratio_bootstrap[1]
        assert row.more_seeds > 0 and row.more_seeds == row.seeds_to_settle - 5
        words = " ".join(row.words().split())
        assert "not told from 16 bits" in words and f"{row.more_seeds} more seeds or folds would settle it" in words
        assert f"The effect size d_z is {d.mean() / d.std(ddof=1):+.2g} (95% interval" in words
        assert "5 pairs cannot give the exact tests less than p = 0.0625" in words
        assert all(len(line) <= 80 for line in row.words().splitlines())


def test_what_is_told_apart_is_said_with_its_direction():
    worse = paired("half", [0.5, 0.52, 0.49, 0.51], "whole", [0.9, 0.91, 0.9, 0.9], measure="recall")
    assert (
        worse.verdict == "worse" and "half is worse than whole" in worse.words() and "more seeds" not in worse.words()
    )
    lower = paired("half", [0.5, 0.52, 0.49, 0.51], "whole", [0.9, 0.91, 0.9, 0.9], measure="loss", better="lower")
    assert lower.verdict == "better" and "half is better than whole" in lower.words()
    one = paired("half", [0.5], "whole", [0.9], measure="recall")
    assert one.verdict == "not told" and one.interval == (None, None) and "one pair cannot say" in one.words()
    same = paired("a", [0.5, 0.6], "b", [0.5, 0.6], measure="recall")
    assert same.sign_flip_p == same.wilcoxon_p == 1.0 and same.seeds_to_settle is None
    assert "the same in every one of them, so a is not told from b" in " ".join(same.words().split())
    near = paired("a", [0.5, 0.6, 0.7], "b", [0.6, 0.6, 0.599999], measure="recall")
    assert near.seeds_to_settle is None and "No reasonable number of seeds" in " ".join(near.words().split())


def test_equal_differences_have_no_interval_and_are_judged_by_signs():
    """.9 - .8 and .8 - .7 are .1 each, and neither is as a float."""
    three = paired("a", [0.9, 0.8, 0.85], "b", [0.8, 0.7, 0.75], measure="recall of lesions")
    assert three.t_p is None and three.interval == (None, None) and three.d_z is None and three.seeds_to_settle is None
    assert three.verdict == "not told" and three.sign_flip_p == 0.25
    words = " ".join(three.words().split())
    assert "a difference of +0.1 in every one of them" in words and "a is not told from b" in words
    six = paired("a", [0.1 * k + 0.1 for k in range(6)], "b", [0.1 * k for k in range(6)], measure="m")
    assert six.t_p is None and six.sign_flip_p == 2 / 64 and six.verdict == "better"
    both = corrected([six, six])[0]
    assert both.verdict == "not told" and both.adjusted_t_p == 2 * 2 / 64
    assert "Sign-flip test p = 0.0625, signed-rank test p = 0.0625, after Holm's correction over 2" in " ".join(
        both.words().split()
    )
    assert "a is better than b" in " ".join(six.words().split())


def test_what_is_counted_is_not_found_more_often_than_the_correction_allows():
    """Recall of 10 lesions takes few values: among 15 comparisons of nothing over 3 seeds all differences of some are alike."""
    rng, found, studies = np.random.default_rng(0), 0, 200
    for _ in range(studies):
        hits = rng.binomial(10, 0.8, (16, 3)) / 10
        rows = corrected([paired(str(k), hits[k], "b", hits[0], measure="m") for k in range(1, 16)])
        found += any(row.verdict != "not told" for row in rows)
    assert found / studies <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / studies)


def test_missing_pairs_are_said():
    row = paired("a", [0.9, 0.8], "b", [0.7, 0.7], measure="precision", missing=1)
    assert "1 pair missing: a run failed, or had no precision" in " ".join(row.words().split())


def test_holm_is_applied_over_all_rows_for_each_test_by_itself():
    rng = np.random.default_rng(0)
    base = rng.normal(0.8, 0.05, 8)
    rows = [
        paired(str(k), base + rng.normal(shift, 0.02, 8), "b", base, measure="m")
        for k, shift in enumerate((0, 0.01, 0.1))
    ]
    for name in ("sign_flip_p", "wilcoxon_p", "t_p"):
        raw = [getattr(row, name) for row in rows]
        found = [getattr(row, f"adjusted_{name}") for row in corrected(rows)]
        order = np.argsort(raw, kind="stable")
        want, running = [0.0] * 3, 0.0
        for rank, index in enumerate(order):
            running = max(running, min(1.0, (3 - rank) * raw[index]))
            want[index] = running
        assert found == pytest.approx(want)
    assert "after Holm's correction over 3" in " ".join(corrected(rows)[0].words().split())


def test_what_does_not_stand_among_all_comparisons_is_not_called_better():
    """60 comparisons of nothing with 3 seeds: about three leave 0 outside their interval."""
    rng = np.random.default_rng(0)
    rows = corrected(
        [paired(f"a{k}", rng.normal(0, 1, 3) + 5, "b", rng.normal(0, 1, 3) + 5, measure="m") for k in range(60)]
    )
    alone = [row for row in rows if row.interval[0] > 0 or row.interval[1] < 0]
    assert (
        alone
        and all(row.verdict == "not told" for row in alone)
        and all("does not stand among 60 comparisons" in " ".join(row.words().split()) for row in alone)
    )
    assert all("more seeds or folds" in " ".join(row.words().split()) for row in alone if row.more_seeds)
    assert not any("so a" in " ".join(row.words().split()) and "not told" not in row.words() for row in rows)
    assert "3 pairs cannot give the exact tests less than p = 1." in " ".join(rows[0].words().split())
    again = paired(rows[0].name, [1.0, 1.1, 1.2], "b", [0.5, 0.7, 0.6], measure="m")
    one, many = corrected([again])[0], corrected([again] * 60)[0]
    assert one.seeds_to_settle == again.seeds_to_settle < many.seeds_to_settle


@pytest.mark.parametrize("a, b", [([1.0], [1.0, 2.0]), ([], []), ([math.nan], [1.0])])
def test_values_that_are_no_pairs_are_refused(a, b):
    with pytest.raises(DataError, match="paired by seed"):
        paired("a", a, "b", b, measure="m")


def test_what_was_lost_is_against_the_baseline_of_the_same_seed():
    table = [
        {"net": net, "recipe": recipe, "seed": seed, "auprc": value}
        for net, recipe, seed, value in (
            ("swin", "none", 0, 0.8), ("swin", "full", 0, 0.7), ("swin", "none", 1, 0.9), ("swin", "full", 1, 0.95),
            ("cnn", "full", 0, 0.6), ("cnn", "none", 1, None), ("cnn", "full", 1, 0.5),
        )
    ]  # fmt: skip
    found = lost(table, axis="recipe", baseline="none", within=("net", "seed"), value="auprc")
    assert [(row["net"], row["seed"], round(row["lost"], 9)) for row in found] == [
        ("swin", "0", 0.1),
        ("swin", "1", -0.05),
    ]
    assert (
        lost(table, axis="recipe", baseline="none", within=("net", "seed"), value="auprc", better="lower")[0]["lost"]
        < 0
    )
    with pytest.raises(DataError, match="no row has a baseline recipe = nun"):
        lost(table, axis="recipe", baseline="nun", within=("net", "seed"), value="auprc")
    with pytest.raises(DataError, match="no 'arch'"):
        lost(table, axis="recipe", baseline="none", within=("arch",), value="auprc")

"""Agreement of rankings against brute force and known answers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from netweight.errors import DataError
from netweight.study import rankings
from netweight.study._rankings import concordance


def w_by_spearman(ranks) -> float:
    """Without ties: W = (1 + (m - 1) * mean rank correlation of all pairs) / m."""
    m = len(ranks)
    pairs = [stats.spearmanr(a, b)[0] for a, b in itertools.combinations(ranks, 2)]
    return (1 + (m - 1) * float(np.mean(pairs))) / m


@pytest.mark.parametrize("m, k", [(2, 4), (3, 5), (6, 3), (10, 4)])
def test_w_is_what_the_mean_rank_correlation_says(m, k):
    rng = np.random.default_rng(m)
    ranks = np.array([rng.permutation(k) + 1.0 for _ in range(m)])
    w, _, _ = concordance(ranks)
    assert w == pytest.approx(w_by_spearman(ranks))
    chi2 = stats.friedmanchisquare(*ranks.T).statistic if k > 2 else 0
    assert w == pytest.approx(chi2 / (m * (k - 1)))


def test_w_with_ties_is_friedmans_statistic_over_its_largest():
    ranks = stats.rankdata([[1, 1, 2, 3], [2, 1, 3, 3], [1, 2, 2, 2]], axis=1)
    assert concordance(ranks)[0] == pytest.approx(stats.friedmanchisquare(*ranks.T).statistic / (3 * 3))


def test_the_p_value_goes_through_all_arrangements_where_they_are_few():
    ranks = np.array([[1.0, 2, 3], [1, 3, 2], [1, 2, 3]])
    every = list(itertools.product(*(itertools.permutations(row) for row in ranks)))
    spread = np.array([np.sum(chosen, 0).var() for chosen in every])
    _, p, test = concordance(ranks)
    assert p == pytest.approx(np.mean(spread >= ranks.sum(0).var() - 1e-9)) and test == "all 36 arrangements"
    same = np.tile([1.0, 2, 3], (4, 1))
    assert concordance(same)[:2] == (1.0, pytest.approx(6 / 6**4))


def test_random_arrangements_stand_for_all_and_follow_their_seed():
    """Three rankings of six: 720 x 720 arrangements beside the first, gone through here; four standard errors of the draws."""
    ranks = stats.rankdata(np.random.default_rng(3).normal(0, 1, (3, 6)) + 0.2 * np.arange(6), axis=1)
    orders = np.array(list(itertools.permutations(range(6))))
    sums = ranks[0] + ranks[1][orders][:, None] + ranks[2][orders][None]
    want = float(np.mean(sums.var(-1) >= ranks.sum(0).var() - 1e-9))
    assert 0.05 < want < 0.95
    found = [concordance(ranks, seed=seed)[1:] for seed in (1, 1, 2)]
    assert found[0] == found[1] != found[2] and found[0][1] == "9999 random arrangements"
    for p, _ in found:
        assert p == pytest.approx(want, abs=4 * (want * (1 - want) / 9999) ** 0.5 + 1e-4)


def test_a_strong_agreement_is_as_unlikely_as_chi_square_says():
    ranks = stats.rankdata(np.random.default_rng(3).normal(0, 1, (20, 6)) + 0.15 * np.arange(6), axis=1)
    w, p, _ = concordance(ranks, seed=1)
    want = stats.chi2.sf(20 * 5 * w, 5)
    assert 0.02 < want < 0.5 and p == pytest.approx(
        want, rel=0.1
    )  # an approximation, good to some percent at 20 rankings


def table(values):
    return [{"recipe": r, "net": n, "seed": s, "auprc": v} for (r, n, s), v in values.items()]


def test_recipes_are_ranked_within_net_and_seed_and_incomplete_rankings_are_left_out():
    values = {
        (r, n, s): v + 0.1 * s for r, v in (("a", 0.8), ("b", 0.9), ("c", 0.7)) for n in ("x", "y") for s in (0, 1)
    }
    values["c", "y", 1] = None
    found = rankings(table(values), items="recipe", blocks=("net", "seed"), value="auprc")
    assert found.items == ("b", "a", "c") and found.mean_ranks == (1.0, 2.0, 3.0)
    assert (found.blocks, found.dropped, found.w) == (3, 1, 1.0)
    words = " ".join(found.words().split())
    assert "Kendall's W = 1.00" in words and "something was missing: 1." in words
    lower = rankings(table(values), items="recipe", blocks=("net", "seed"), value="auprc", better="lower")
    assert lower.items == ("c", "a", "b")
    assert all(len(line) <= 80 for line in found.words().splitlines())


def test_one_ranking_has_no_agreement_and_none_is_refused():
    one = {(r, "x", 0): v for r, v in (("a", 0.8), ("b", 0.9))}
    found = rankings(table(one), items="recipe", blocks=("net", "seed"), value="auprc")
    assert found.w is None and found.items == ("b", "a") and "Kendall" not in found.words()
    with pytest.raises(DataError, match="none of 2 rankings has all of a, b"):
        rankings(table({("a", "x", 0): 1.0, ("b", "y", 0): 1.0}), items="recipe", blocks=("net", "seed"), value="auprc")
    with pytest.raises(DataError, match="two rows are of x, a"):
        rankings(table({("a", "x", 0): 1.0, ("a", "x", 1): 1.0}), items="recipe", blocks=("net",), value="auprc")

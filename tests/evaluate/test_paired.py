"""Paired comparison: tests equal their definitions, verdicts follow from intervals alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from netweight.errors import SettingsError
from netweight.evaluate import holm, verdict
from netweight.evaluate._paired import Better, compare, p_value
from netweight.evaluate._samples import Additive, Sampled, exp_ratio, proportion, ratio, spearman
from oracles import statistics_paired as oracle


def comparison(subject, reference, *, better: Better = "lower", margin=None, resamples=2000):
    rng = np.random.default_rng(0)
    indices = rng.integers(0, subject.n, (resamples, subject.n))
    pair = (subject.at(indices), reference.at(indices))
    return compare(subject, reference, pair, name="whole", better=better, margin=margin, rng=rng)


def perplexities(seed, n):
    rng = np.random.default_rng(seed)
    tokens = rng.integers(5, 50, n).astype(float)
    nll = tokens * rng.normal(3, 0.4, n)
    worse = nll + tokens * rng.normal(0.05, 0.05, n)
    return (
        Additive(np.stack([worse, tokens], 1), exp_ratio, "documents"),
        Additive(np.stack([nll, tokens], 1), exp_ratio, "documents"),
    )


def test_the_swap_test_of_perplexity_equals_enumeration():
    subject, reference = perplexities(0, 8)
    found, test = p_value(subject, reference, 2000, np.random.default_rng(0))
    rows = [sample.values_NK.tolist() for sample in (subject, reference)]
    want = oracle.swap_p(rows[0], rows[1], lambda r: math.exp(sum(x for x, _ in r) / sum(t for _, t in r)))
    assert found == want
    assert test == "paired permutation, all 256 swaps"


def test_the_swap_test_of_a_mean_equals_scipys_paired_permutation_test():
    rng = np.random.default_rng(4)
    a, b = rng.normal(0.4, 1, 9), rng.normal(0, 1, 9)
    samples = [Additive(np.stack([x, np.ones(9)], 1), ratio, "items") for x in (a, b)]
    want = stats.permutation_test(
        (a, b), lambda x, y, axis: (x - y).mean(axis), permutation_type="samples", n_resamples=2**9, vectorized=True
    )
    assert p_value(samples[0], samples[1], 2000, np.random.default_rng(0))[0] == pytest.approx(want.pvalue, abs=1e-12)


def test_random_swaps_come_close_to_all_swaps():
    subject, reference = perplexities(2, 10)
    exact, _ = p_value(subject, reference, 1024, np.random.default_rng(0))
    drawn, test = p_value(subject, reference, 1023, np.random.default_rng(0))
    assert test == "paired permutation, 1023 random swaps"
    # 4 standard deviations of a share of 1023 draws
    assert abs(drawn - exact) < 4 * math.sqrt(exact * (1 - exact) / 1023) + 1 / 1023


def test_the_swap_test_of_a_rank_correlation_equals_enumeration():
    rng = np.random.default_rng(6)
    scores = rng.normal(size=7)
    cosines = [scores + rng.normal(size=7) for _ in range(2)]
    samples = [Sampled(np.stack([c, scores], 1), spearman, "pairs") for c in cosines]
    rows = [sample.values_NK.tolist() for sample in samples]

    def rho(pairs):
        x, y = np.array(pairs).T
        return float(np.corrcoef(stats.rankdata(x), stats.rankdata(y))[0, 1])

    assert p_value(samples[0], samples[1], 2000, np.random.default_rng(0))[0] == oracle.swap_p(rows[0], rows[1], rho)


@pytest.mark.parametrize("won, lost", [(0, 0), (1, 0), (3, 9), (10, 10), (0, 12)])
def test_accuracies_are_compared_by_the_exact_mcnemar_test(won, lost):
    subject = [1] * won + [0] * lost + [1] * 5 + [0] * 5
    reference = [0] * won + [1] * lost + [1] * 5 + [0] * 5
    samples = [proportion(np.array(x), "questions") for x in (subject, reference)]
    p, test = p_value(samples[0], samples[1], 2000, np.random.default_rng(0))
    assert p == pytest.approx(oracle.mcnemar_p(won, lost), rel=1e-12)
    assert f"{won} won and {lost} lost" in test


def test_pairing_narrows_the_difference_below_what_either_interval_suggests():
    subject, reference = perplexities(1, 60)
    found, _ = comparison(subject, reference)
    assert found is not None
    assert 0 < found.low < found.difference < found.high
    spread = np.ptp(np.quantile(subject.at(np.random.default_rng(0).integers(0, 60, (500, 60))), [0.025, 0.975]))
    assert found.high - found.low < spread / 2
    assert found.difference == subject.value() - reference.value()


def test_equal_subjects_differ_by_nothing_with_p_one():
    subject, _ = perplexities(1, 30)
    found, note = comparison(subject, subject, margin=0.1)
    assert found is not None
    assert (found.difference, found.low, found.high, found.p_value) == (0.0, 0.0, 0.0, 1.0)
    assert found.verdict == "non-inferior" and "nothing is known" in note


def test_answers_without_any_disagreement_still_leave_room_for_one():
    answers = proportion(np.tile([1.0, 0.0], 30), "questions")
    found, _ = comparison(answers, answers, better="higher", margin=0.01)
    assert found is not None
    bound = 1 - 0.025 ** (1 / 60)  # Clopper-Pearson, 0 of 60
    assert (found.low, found.high) == pytest.approx((-bound, bound))
    assert found.verdict == "undecided"


def test_every_answer_flipped_bounds_the_difference_by_the_exact_binomial():
    ones, zeros = (proportion(np.full(20, v), "questions") for v in (1.0, 0.0))
    found, _ = comparison(zeros, ones, better="higher", margin=0.5)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((-1.0, -(0.025 ** (1 / 20))))
    assert found.verdict == "inferior"


def test_few_disagreements_are_pointed_out():
    reference = np.tile([1.0, 0.0], 30)
    subject = reference.copy()
    subject[:6:2] = 0
    _, note = comparison(proportion(subject, "q"), proportion(reference, "q"), better="higher")
    assert "only 3 pairs disagree" in note


def test_a_single_item_gives_no_comparison_and_the_note_holds_the_difference():
    subject, reference = perplexities(0, 1)
    found, note = compare(
        subject,
        reference,
        (np.zeros(0), np.zeros(0)),
        name="whole",
        better="lower",
        margin=1.0,
        rng=np.random.default_rng(0),
    )
    assert found is None
    assert f"{subject.value() - reference.value():+.6g}" in note and "at least 2" in note


@pytest.mark.parametrize("n, want", [(5, "undecided"), (6, "inferior")])
def test_five_documents_are_too_few_for_a_verdict(n, want):
    tokens = np.full(n, 10.0)
    reference = Additive(np.stack([np.linspace(20, 30, n), tokens], 1), exp_ratio, "documents")
    subject = Additive(np.stack([np.linspace(40, 50, n), tokens], 1), exp_ratio, "documents")
    found, note = comparison(subject, reference, margin=0.01)
    assert found is not None and found.verdict == want
    assert ("too few for a verdict" in note) == (n == 5)


@pytest.mark.parametrize(
    "low, high, better, want",
    [
        (-1.0, 0.4, "lower", "non-inferior"),
        (0.6, 0.9, "lower", "inferior"),
        (0.4, 0.6, "lower", "undecided"),
        (-1.0, 0.5, "lower", "undecided"),  # touching the margin is not below it
        (-0.4, 1.0, "higher", "non-inferior"),
        (-0.9, -0.6, "higher", "inferior"),
        (-0.6, -0.4, "higher", "undecided"),
        (-0.4, 0.4, "neither", "non-inferior"),
        (-0.9, -0.6, "neither", "inferior"),
        (-0.9, 0.1, "neither", "undecided"),
    ],
)
def test_the_verdict_follows_from_the_interval_and_the_margin(low, high, better, want):
    assert verdict(low, high, 0.5, better) == want


def test_holm_on_a_worked_example():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.7, 0.9]) == [1.0, 1.0]


@given(st.lists(st.floats(0, 1), max_size=8), st.sampled_from([0.01, 0.05, 0.2]))
def test_holm_rejects_exactly_what_the_published_procedure_rejects(p_values, alpha):
    corrected = holm(p_values)
    if all(abs(c - alpha) > 1e-12 for c in corrected):  # p * m and alpha / m round differently on the border
        assert [c <= alpha for c in corrected] == oracle.holm_rejections(p_values, alpha)


def test_holm_refuses_what_is_no_probability():
    with pytest.raises(SettingsError, match=r"1\.5 is not between 0 and 1"):
        holm([0.1, 1.5])

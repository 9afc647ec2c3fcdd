"""Does a 95 % interval hold the truth 95 % of the time? A seeded simulation that a wrong interval fails.

300 simulated test sets give a share of .93 a standard deviation of sqrt(.93 * .07 / 300) = 1.5 %, one of .7 2.6 %; bounds
are 3 of these around the shares of 1,500 sets that the module's docstring states.
"""

from __future__ import annotations

import numpy as np
import pytest

from netweight.evaluate._samples import Additive, ratio
from netweight.evaluate._statistics import bca, resamples_of

SIMULATIONS, RESAMPLES = 300, 400


def covers(sample: Additive, truth: float, rng: np.random.Generator) -> bool:
    replicates = np.concatenate([sample.at(part) for part in resamples_of(sample.n, RESAMPLES, rng)])
    found = bca(sample.value(), replicates, sample.leave_one_out(), items="documents")
    return found.low is not None and found.high is not None and found.low <= truth <= found.high


def documents(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Nll sums and token counts: documents differ in difficulty (skewed) and length, independently; the mean nll is 3."""
    tokens = rng.integers(20, 400, n).astype(float)
    return tokens * (2 + rng.exponential(1, n)), tokens


def coverage(n: int, seed: int) -> float:
    rng = np.random.default_rng(seed)
    return float(
        np.mean(
            [covers(Additive(np.stack(documents(n, rng), 1), ratio, "documents"), 3.0, rng) for _ in range(SIMULATIONS)]
        )
    )


@pytest.mark.parametrize("n, low, high", [(8, 0.76, 0.90), (30, 0.86, 0.96), (60, 0.885, 0.975)])
def test_the_interval_of_mean_nll_covers_as_often_as_the_documentation_states(n, low, high):
    assert low <= coverage(n, seed=11) <= high


def test_four_documents_cover_clearly_less_which_is_why_the_claim_warns():
    assert 0.63 <= coverage(4, seed=11) <= 0.79


def test_resampling_tokens_instead_of_documents_would_be_caught():
    """Tokens of a document share its difficulty: as if independent, the interval is far too narrow."""
    rng = np.random.default_rng(11)
    hits = 0
    for _ in range(60):
        nll, tokens = documents(60, rng)
        per_token = np.repeat(nll / tokens, 20)  # 20 tokens of each are enough to show it
        hits += covers(Additive(np.stack([per_token, np.ones_like(per_token)], 1), ratio, "tokens"), 3.0, rng)
    assert hits / 60 < 0.6

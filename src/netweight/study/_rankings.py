"""Do the seeds, folds or settings agree on the order? Kendall's W of m rankings of k items, with a permutation test.

W = 12 S / (m^2 (k^3 - k) - m sum T), S the squared deviations of the items' rank sums from their mean, T = sum (t^3 - t) over a ranking's
groups of t tied values. W is 1 where all rankings are the same and about 1 / m where they have nothing in common. Test: ranks are
permuted within each ranking, over all arrangements where they are few, else over random ones. Source: M. Kendall and
B. Babington Smith, Annals of Mathematical Statistics 10 (1939).
"""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy import stats

from netweight.errors import DataError
from netweight.study._table import cells_of
from netweight.words import counted

MOST_EXACT = 50_000  # arrangements that are all gone through
DRAWS = 9_999
WIDTH = 80


@dataclass(frozen=True)
class Rankings:
    """Items from the best mean rank (1 is best) on; W and the p-value of "every order is as likely", None for one ranking or item.

    Attributes:
      blocks: rankings made. dropped: those left out because an item was missing.
    """

    items: tuple[str, ...]
    mean_ranks: tuple[float, ...]
    blocks: int
    dropped: int
    w: float | None
    p_value: float | None
    test: str

    def words(self) -> str:
        """What was found, in a paragraph of at most 80 columns."""
        order = ", ".join(f"{name} ({rank:.2g})" for name, rank in zip(self.items, self.mean_ranks, strict=True))
        said = f"Over {counted(self.blocks, 'ranking')} the order by mean rank is {order}."
        if self.w is not None and self.p_value is not None:
            agree = "strongly" if self.w > 0.7 else "moderately" if self.w > 0.5 else "weakly"
            said += f" The rankings agree {agree}: Kendall's W = {self.w:.2f}, p = {self.p_value:.3g} ({self.test})."
            if self.p_value > 0.05:
                said += " That is not told from rankings that have nothing in common."
        if self.dropped:
            said += f" Left out because something was missing: {self.dropped}."
        return textwrap.fill(said, WIDTH)


def rankings(
    table: Sequence[Mapping[str, Any]],
    *,
    items: str,
    blocks: Sequence[str],
    value: str,
    better: Literal["lower", "higher"] = "higher",
    seed: int = 0,
) -> Rankings:
    """From rows of a table: what is ranked, and within which combinations of other columns.

    Args:
      items: the column that names what is ranked, such as the recipe.
      blocks: columns whose combinations each make one ranking, such as architecture, scale and seed.
      seed: of the random arrangements.
    Raises:
      DataError: no ranking is complete, a column is missing, or a combination occurs twice.
    """
    cells = cells_of(table, (*blocks, items), value)
    names = list(dict.fromkeys(key[-1] for key in cells))
    groups = list(dict.fromkeys(key[:-1] for key in cells))
    whole = [group for group in groups if all((*group, name) in cells for name in names)]
    if not whole:
        raise DataError(f"none of {len(groups)} rankings has all of {', '.join(names)}")
    sign = -1.0 if better == "higher" else 1.0
    ranks_MK = stats.rankdata([[sign * cells[*group, name] for name in names] for group in whole], axis=1)
    w, p, test = concordance(ranks_MK, seed=seed)
    mean_K = ranks_MK.mean(0)
    order = np.argsort(mean_K, kind="stable")
    return Rankings(
        tuple(names[i] for i in order), tuple(float(mean_K[i]) for i in order), len(whole), len(groups) - len(whole), w, p, test
    )  # fmt: skip


def concordance(ranks_MK: np.ndarray, *, seed: int = 0) -> tuple[float | None, float | None, str]:
    """Kendall's W of m rankings of k items, its p-value, and which arrangements that comes from."""
    m, k = ranks_MK.shape
    ties = sum(float(np.sum(count**3 - count)) for count in (np.unique(row, return_counts=True)[1] for row in ranks_MK))
    most = (m**2 * (k**3 - k) - m * ties) / 12
    if m < 2 or k < 2 or most <= 0:
        return None, None, "none: two rankings of two items that are not all tied are needed"
    observed = _spread(ranks_MK.sum(0)[None])[0]
    all_of_them = math.factorial(k) ** (m - 1)
    if all_of_them <= MOST_EXACT:
        orders = [list(itertools.permutations(row)) for row in ranks_MK[1:]]
        sums = ranks_MK[0] + np.array([np.sum(chosen, 0) for chosen in itertools.product(*orders)])
        p, test = float(np.mean(_spread(sums) >= observed - 1e-9)), f"all {all_of_them} arrangements"
    else:
        rng = np.random.default_rng(seed)
        sums = sum(rng.permuted(np.tile(row, (DRAWS, 1)), axis=1) for row in ranks_MK)
        p = float((1 + np.sum(_spread(np.asarray(sums)) >= observed - 1e-9)) / (1 + DRAWS))
        test = f"{DRAWS} random arrangements"
    return float(observed / most), p, test


def _spread(sums_RK: np.ndarray) -> np.ndarray:
    return np.square(sums_RK - sums_RK.mean(1, keepdims=True)).sum(1)

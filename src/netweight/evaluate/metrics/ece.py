"""Expected calibration error of next-token prediction: does 70 % confidence mean right 70 % of the time?

Confidence is the likeliest token's probability, "right" means it is the text's next token; 15 bins of equal width.
"""

from __future__ import annotations

from torch import Tensor

from netweight.evaluate._calibration_error import bin_sums, ece_of_sums
from netweight.evaluate._task import Quantity
from netweight.evaluate._tokens import TokenView
from netweight.evaluate._windows import TextSettings

SUMMARY = "calibration error of next-token confidence, 15 bins of equal width"
DATA = ("text",)
QUANTITIES = (Quantity("ece", "fraction", "lower"),)
Settings = TextSettings
of_sums = ece_of_sums


def score(view: TokenView) -> Tensor:
    """(N, 30): see ``bin_sums``."""
    top_N, token_N = view.logp_NV.max(1)
    return bin_sums(top_N.exp(), token_N == view.target_N)

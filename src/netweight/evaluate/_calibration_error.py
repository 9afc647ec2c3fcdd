"""Expected calibration error over 15 bins of equal width, from sums that add up over items.

ECE = sum over bins of |sum of confidence - number right| / n. Bin i holds confidences in (i/15, (i+1)/15]; confidence 1.0
is thus in the last bin, and 0.0 is put in the first. (One published implementation gives confidence 1.0 a bin of its own
beyond the last and so reports .525 where .475 is right.) Equal width rather than equal mass: the edges do not depend on
the sample, so items can be resampled.

ECE is an absolute value: with few items it is biased upwards, and its bootstrap interval shares the bias.
Source: M. Naeini et al., "Obtaining Well Calibrated Probabilities Using Bayesian Binning", AAAI 2015.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

BINS = 15


def bin_sums(confidence_N: Tensor, right_N: Tensor) -> Tensor:
    """(N, 2 * BINS) float64: per item, in its bin's column, confidence - right; and in the bin's second column, one."""
    bin_N = (torch.ceil(confidence_N.double() * BINS).long() - 1).clamp(0, BINS - 1)
    values_NK = torch.zeros(len(bin_N), 2 * BINS, dtype=torch.float64, device=confidence_N.device)
    gap_N1 = (confidence_N.double() - right_N.double())[:, None]
    values_NK.scatter_(1, bin_N[:, None], gap_N1)
    return values_NK.scatter_(1, bin_N[:, None] + BINS, 1.0)


def ece_of_sums(sums_RK: np.ndarray) -> np.ndarray:
    """(R,) expected calibration error, from summed ``bin_sums``."""
    return np.abs(sums_RK[:, :BINS]).sum(1) / sums_RK[:, BINS:].sum(1)

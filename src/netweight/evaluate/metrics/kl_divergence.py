"""KL divergence of the reference's next-token distribution from the subject's, nats per token.

KL(reference || subject) = sum over the whole vocabulary of p_ref (log p_ref - log p_subject), in float64, averaged over
the tokens that perplexity scores in the same windows. 0 means the same distribution.
Source: S. Kullback and R. Leibler, "On Information and Sufficiency", 1951.
"""

from __future__ import annotations

import torch
from torch import Tensor

from netweight.errors import SettingsError
from netweight.evaluate._samples import ratio
from netweight.evaluate._task import Quantity
from netweight.evaluate._tokens import TokenView
from netweight.evaluate._windows import TextSettings

SUMMARY = "KL(reference || subject) per token, over the full vocabulary"
DATA = ("text",)
QUANTITIES = (Quantity("kl_divergence", "nat/token", "lower", ideal=0.0),)
NEEDS_REFERENCE = True
Settings = TextSettings
of_sums = ratio


def score(view: TokenView) -> Tensor:
    """(N, 2): divergence in nats, and one per token."""
    if view.reference_NV is None:
        raise SettingsError("kl_divergence compares with a reference; pass reference= to run")
    kl_N = (view.reference_NV.exp() * (view.reference_NV - view.logp_NV)).sum(1)
    return torch.stack([kl_N, torch.ones_like(kl_N)], 1)

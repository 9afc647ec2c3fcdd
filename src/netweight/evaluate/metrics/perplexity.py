"""Perplexity of text: exp(sum of nll / number of scored tokens), nll in nats.

Tokens are cut into windows as ``TextSettings`` says, which also states the stride and BOS rules. Sums of nll and of tokens
are kept per document (or per window) and resampled together, so that long documents weigh as they do in the value.
"""

from __future__ import annotations

import torch
from torch import Tensor

from netweight.evaluate._samples import exp_ratio
from netweight.evaluate._task import Quantity
from netweight.evaluate._tokens import TokenView
from netweight.evaluate._windows import TextSettings

SUMMARY = "perplexity of text, windows and stride stated"
DATA = ("text",)
QUANTITIES = (Quantity("perplexity", "1", "lower"),)
Settings = TextSettings
of_sums = exp_ratio


def score(view: TokenView) -> Tensor:
    """(N, 2): nll in nats, and one per token."""
    return torch.stack([-view.target_logp_N, torch.ones_like(view.target_logp_N)], 1)

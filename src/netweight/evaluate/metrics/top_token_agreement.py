"""Share of tokens at which subject and reference find the same token likeliest (of equals, the first in the vocabulary)."""

from __future__ import annotations

import torch
from torch import Tensor

from netweight.errors import SettingsError
from netweight.evaluate._samples import ratio
from netweight.evaluate._task import Quantity
from netweight.evaluate._tokens import TokenView
from netweight.evaluate._windows import TextSettings

SUMMARY = "share of tokens whose likeliest token is the reference's"
DATA = ("text",)
QUANTITIES = (Quantity("top_token_agreement", "fraction", "higher", ideal=1.0),)
NEEDS_REFERENCE = True
Settings = TextSettings
of_sums = ratio


def score(view: TokenView) -> Tensor:
    """(N, 2): one where both agree, and one per token."""
    if view.reference_NV is None:
        raise SettingsError("top_token_agreement compares with a reference; pass reference= to run")
    same_N = (view.logp_NV.argmax(1) == view.reference_NV.argmax(1)).double()
    return torch.stack([same_N, torch.ones_like(same_N)], 1)

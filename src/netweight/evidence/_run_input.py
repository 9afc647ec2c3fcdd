"""What a page about training runs is made of: one ``RunInput`` per run, as plain data, and pictures of their test slices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from netweight.claim import Claim
from netweight.errors import EvidenceError

PARTS = ("train", "validation", "test")
ROLES = {
    "forward_x": "forward, inputs",
    "forward_w": "forward, weights",
    "dgrad_g": "gradient of inputs, gradients",
    "dgrad_w": "gradient of inputs, weights",
    "wgrad_g": "gradient of weights, gradients",
    "wgrad_x": "gradient of weights, inputs",
}  # product, and which of its two operands


@dataclass(frozen=True)
class Looked:
    """What was seen when a trained net was run once more on some training slices.

    Attributes:
      slices: how many.
      rounding: a row per layer and role: ``layer``, ``role``, ``flushed``, ``saturated`` (shares) and ``error`` (relative).
      attention: by layer, how many distinct values a row of attention holds, and how many it could (``tokens``).
      oscillating: ``share`` of the weights that are rounded, ``threshold``, ``window`` (steps); empty where nobody looked.
    """

    slices: int
    rounding: tuple[Mapping[str, Any], ...] = ()
    attention: Mapping[str, float] = field(default_factory=dict)
    tokens: int = 0
    oscillating: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class RunInput:
    """One run's evidence, as plain data.

    Attributes:
      name: of its folder. title: of its recipe.
      claims: about this run, paired with the reference where that could be.
      test_sha256: of its own test slices, as claims name them in ``data``; "" where that is not known.
      reference: the heading of the run that it is paired with on these; "" for the reference itself, and where there is none.
      training: as ``train`` left it: ``data``, ``split``, ``history``, ``layers``, ``packed``, ``environment``, ``seconds``.
      recipe: its tables ``net``, ``qat``, ``data``, ``training``, and ``seed``.
      arithmetic: ``summary``, and ``operands``: by role ``format``, ``rounding``, ``hadamard``, ``rule``, or "forward" for
        what the forward product used; ``learned``: bits, where scales are learned.
      weights_bytes: of the float32 weights on disk.
      patients: of each part, found again in the data; None where the data could not be found.
      missing: why pictures, diagnostics and paired differences could not be made; "" where they could.
      recomputed: AUPRC of the predictions made for this page, to be held against the claim.
    """

    name: str
    title: str
    claims: list[Claim]
    test_sha256: str
    training: Mapping[str, Any]
    recipe: Mapping[str, Any]
    recipe_toml: str
    arithmetic: Mapping[str, Any] = field(default_factory=dict)
    reference: str = ""
    weights_bytes: int = 0
    patients: Mapping[str, tuple[str, ...]] | None = None
    looked: Looked | None = None
    missing: str = ""
    recomputed: float | None = None

    def on_own_test(self) -> list[Claim]:
        """The claims about its own test slices."""
        return [claim for claim in self.claims if claim.data.get("sha256") == self.test_sha256]


def check(runs: Sequence[RunInput]) -> None:
    """Raises: EvidenceError: no run, or two of one name."""
    if not runs:
        raise EvidenceError("a report needs at least one run; none was given")
    if twice := [name for name, count in Counter(run.name for run in runs).items() if count > 1]:
        raise EvidenceError(f"two runs are named {twice[0]!r}; give each folder its own name")


def headings(named: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """How each of several (name, title) is called: by its title, and by its name too where titles are equal."""
    titles = Counter(title or name for name, title in named)
    return tuple(
        (title or name) if titles[title or name] == 1 else name if title in ("", name) else f"{title} ({name})"
        for name, title in named
    )

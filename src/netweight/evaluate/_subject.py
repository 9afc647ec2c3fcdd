"""The judge's view of what it measures: callables and byte counts, never how the thing was made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from netweight.errors import SettingsError

Logits = Callable[[Tensor, Tensor | None], Tensor]


@dataclass(frozen=True)
class Subject:
    """One thing to be measured. A callable that is None is a skill the subject does not have.

    Attributes:
      name: unique within a run; it appears in every claim.
      sha256: hash of what was measured.
      logits: (ids_BT, mask_BT) -> logits_BTV. ids are int64 on the CPU; the mask is int64, 1 on real tokens and 0 on
        padding, which is always on the right; None means that nothing is padded. Row t predicts token t + 1.
      embed: a list of N texts -> (N, D).
      classify: a batch of inputs, first axis B -> logits (B, C).
      segment: images (B, 3, H, W) float -> logits (B, 1, H, W), above 0 where a lesion is likelier than not.
      bytes_on_disk, bytes_in_memory: None where nobody counted.
    """

    name: str
    sha256: str
    logits: Logits | None = None
    embed: Callable[[list[str]], Any] | None = None
    classify: Callable[[Tensor], Tensor] | None = None
    bytes_on_disk: int | None = None
    bytes_in_memory: int | None = None
    segment: Callable[[Tensor], Tensor] | None = None

    def skill(self, name: str) -> Callable[..., Any]:
        """The callable ``logits``, ``embed``, ``classify`` or ``segment``.

        Raises:
          SettingsError: the subject has no such callable.
        """
        skills = {"logits": self.logits, "embed": self.embed, "classify": self.classify, "segment": self.segment}
        found = skills[name]
        if found is None:
            raise SettingsError(
                f"subject {self.name!r} has no {name!r} callable; give it one, or drop the task needing it"
            )
        return found

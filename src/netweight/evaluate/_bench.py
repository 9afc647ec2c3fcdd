"""The bench: subjects side by side, in lock step over the same batches, with every number checked."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from netweight.errors import EvidenceError
from netweight.evaluate._subject import Subject

Progress = Callable[[str, int, int], None]  # (what, batches done, batches in all)
T = TypeVar("T")


@dataclass(frozen=True)
class Bench:
    """What a metric measures with.

    Attributes:
      subjects: the reference, if any, comes first.
      reference: name of the subject that the others are compared with.
      batch_size: windows, questions, texts or inputs at a time; it may change time and memory, never a score.
      clock: seconds, monotonic.
    """

    subjects: tuple[Subject, ...]
    reference: str | None = None
    batch_size: int = 8
    progress: Progress | None = None
    clock: Callable[[], float] = time.perf_counter

    def batches(self, items: Sequence[T], label: str) -> Iterator[Sequence[T]]:
        """Consecutive slices of at most ``batch_size`` items; progress is told after each."""
        total = -(-len(items) // self.batch_size)
        for number in range(total):
            yield items[number * self.batch_size : (number + 1) * self.batch_size]
            if self.progress is not None:
                self.progress(label, number + 1, total)


def checked_logits(subject: Subject, ids_BT: Tensor, mask_BT: Tensor | None) -> Tensor:
    """(B, T, V) logits of a batch, without gradients.

    Raises:
      EvidenceError: the callable returned another shape.
    """
    logits_BTV = subject.skill("logits")(ids_BT, mask_BT)
    if logits_BTV.ndim != 3 or logits_BTV.shape[:2] != ids_BT.shape:
        raise EvidenceError(
            f"{subject.name}: logits of shape {tuple(logits_BTV.shape)} for ids of shape {tuple(ids_BT.shape)}; "
            "need (batch, tokens, vocabulary)"
        )
    return logits_BTV.detach()


def check_finite(rows_NK: Tensor, subject: str, where: Callable[[int], str]) -> None:
    """Refuse NaN and Inf.

    Args:
      where: row number -> words that say which token or item it is; called for the first bad row only.
    Raises:
      EvidenceError: names the subject, the value and the place.
    """
    good_N = torch.isfinite(rows_NK).flatten(1).all(1)
    if bool(good_N.all()):
        return
    row = int(torch.nonzero(~good_N)[0])
    values = rows_NK[row].flatten()
    value = float(values[~torch.isfinite(values)][0])
    raise EvidenceError(f"{subject}: {value} at {where(row)}; a score made from it would mean nothing")

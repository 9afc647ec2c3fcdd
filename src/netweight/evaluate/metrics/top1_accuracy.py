"""A classifier's top-1 accuracy, and its calibration error over 15 bins of equal width (confidence: largest softmax value)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from netweight import settings as base
from netweight.errors import DataError, EvidenceError
from netweight.evaluate._bench import Bench, check_finite
from netweight.evaluate._calibration_error import bin_sums, ece_of_sums
from netweight.evaluate._items import Labelled
from netweight.evaluate._samples import Additive, Sample, proportion
from netweight.evaluate._subject import Subject
from netweight.evaluate._task import Quantity

SUMMARY = "top-1 accuracy and calibration error of a classifier"
DATA = ("labelled",)
QUANTITIES = (Quantity("top1_accuracy", "fraction", "higher"), Quantity("top1_ece", "fraction", "lower"))


class Settings(base.Settings):
    """Nothing to choose."""


def measure(bench: Bench, data: Labelled, settings: Settings) -> dict[str, dict[str, Sample]]:
    """Both quantities of every subject; one input is one independent observation.

    Raises:
      DataError: no inputs, or labels that do not match them.
      EvidenceError: logits are not finite, or a label lies beyond them.
    """
    count = len(data.labels_N)
    if count == 0 or len(data.inputs) != count:
        raise DataError(f"{data.source}: {len(data.inputs)} inputs and {count} labels")
    found: dict[str, list[Tensor]] = {subject.name: [] for subject in bench.subjects}
    for batch in bench.batches(range(count), f"top1_accuracy on {data.source}"):
        rows = slice(batch[0], batch[-1] + 1)
        for subject in bench.subjects:
            found[subject.name].append(_rows(subject, data.inputs[rows], data.labels_N[rows], batch[0]))
    accuracy, ece = (quantity.name for quantity in QUANTITIES)
    return {
        name: {
            accuracy: proportion(_column(parts, 0), "inputs"),
            ece: Additive(bin_sums(torch.cat(parts)[:, 1], torch.cat(parts)[:, 0]).numpy(), ece_of_sums, "inputs"),
        }
        for name, parts in found.items()
    }


def _column(parts: list[Tensor], column: int) -> np.ndarray:
    return torch.cat(parts)[:, column].numpy()


def _rows(subject: Subject, inputs: Tensor, labels_B: Tensor, first: int) -> Tensor:
    """(B, 2) float64: one where right, and confidence."""
    logits_BC = subject.skill("classify")(inputs).detach().cpu()
    if logits_BC.ndim != 2 or len(logits_BC) != len(labels_B):
        raise EvidenceError(f"{subject.name}: logits of shape {tuple(logits_BC.shape)} for {len(labels_B)} inputs")
    if int(labels_B.max()) >= logits_BC.shape[1] or int(labels_B.min()) < 0:
        raise EvidenceError(
            f"{subject.name}: labels from {int(labels_B.min())} to {int(labels_B.max())} with {logits_BC.shape[1]} classes"
        )
    check_finite(logits_BC, subject.name, lambda row: f"input {first + row}")
    confidence_B, class_B = torch.softmax(logits_BC.double(), 1).max(1)
    return torch.stack([(class_B == labels_B.cpu()).double(), confidence_B], 1)

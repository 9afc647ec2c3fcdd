"""Masks measured: one pass over the images for all metrics of the same data, or none where predictions are at hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from netweight.errors import DataError, EvidenceError
from netweight.evaluate._bench import Bench, check_finite
from netweight.evaluate._items import Masked
from netweight.evaluate._samples import Sample
from netweight.evaluate._scored import Scored, Truth
from netweight.evaluate._subject import Subject
from netweight.evaluate._task import Task


def measure_masks(bench: Bench, tasks: Sequence[Task]) -> list[dict[str, dict[str, Sample]]]:
    """What each of several tasks on the same images finds.

    Raises:
      DataError: no images, or not one for each mask. EvidenceError: logits of another shape than the masks, or not finite.
    """
    data = tasks[0].data
    if not isinstance(data, Masked) or data.images is None:
        raise DataError(
            "there are masks but no images to predict them from; pass images=, or judge arrays by `segmentation`"
        )
    truth = Truth.of(data)
    if len(data.images) != len(truth.masks_NHW):
        raise DataError(f"{data.source}: {len(data.images)} images and {len(truth.masks_NHW)} masks")
    label = f"{'+'.join(task.metric for task in tasks)} on {data.source}"
    scored = {name: Scored.of(name, found, truth) for name, found in _predicted(bench, data, truth, label).items()}
    return of_tasks(scored, tasks)


def of_tasks(scored: Mapping[str, Scored], tasks: Sequence[Task]) -> list[dict[str, dict[str, Sample]]]:
    """What each of several tasks makes of the same probabilities."""
    return [task.plugin.of_masks(scored, task.settings) for task in tasks]


def _predicted(bench: Bench, data: Masked, truth: Truth, label: str) -> dict[str, np.ndarray]:
    """(N, H, W) float32 probabilities of every subject."""
    found = {subject.name: np.empty(truth.masks_NHW.shape, np.float32) for subject in bench.subjects}
    for batch in bench.batches(range(len(truth.masks_NHW)), label):
        rows = slice(batch[0], batch[-1] + 1)
        images_B3HW = data.images[rows]  # pyright: ignore[reportOptionalSubscript]
        for subject in bench.subjects:
            found[subject.name][rows] = _probabilities(subject, images_B3HW, truth.masks_NHW[rows], batch[0])
    return found


def _probabilities(subject: Subject, images_B3HW: torch.Tensor, masks_BHW: np.ndarray, first: int) -> np.ndarray:
    logits = subject.skill("segment")(images_B3HW).detach().cpu()
    wanted = (len(masks_BHW), 1, *masks_BHW.shape[1:])
    if tuple(logits.shape) != wanted:
        raise EvidenceError(f"{subject.name}: logits of shape {tuple(logits.shape)} for masks that need {wanted}")
    check_finite(logits, subject.name, lambda row: f"slice {first + row}")
    return torch.sigmoid(logits[:, 0].float()).numpy()

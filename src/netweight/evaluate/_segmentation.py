"""Masks judged from arrays: probabilities that a training loop, another tool or a file already holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from netweight import registry
from netweight.claim import Claim
from netweight.errors import DataError, SettingsError
from netweight.evaluate._claims import Terms
from netweight.evaluate._items import Masked
from netweight.evaluate._run import check, concluded
from netweight.evaluate._scored import Scored, Truth
from netweight.evaluate._segment import of_tasks
from netweight.evaluate._subject import Subject
from netweight.evaluate._task import ROOM, Task, task
from netweight.provenance import environment as environment_of
from netweight.provenance import sha256_of_bytes


def segmentation(
    probabilities: Mapping[str, np.ndarray],
    masks_NHW: np.ndarray,
    patients: Sequence[str],
    *,
    reference: str | None = None,
    metrics: Mapping[str, Mapping[str, Any]] | None = None,
    source: str = "arrays",
    split: str = "",
    sha256: Mapping[str, str] | None = None,
    seed: int = 0,
    resamples: int = 2000,
    margins: Mapping[str, float] | None = None,
    ratios: Sequence[str] = (),
    command: str = "",
    environment: Mapping[str, Any] | None = None,
) -> list[Claim]:
    """Every metric of masks for every subject, with intervals over patients, and paired with the reference.

    Args:
      probabilities: subject -> (N, H, W) float32 in 0..1, what it says of each pixel of N slices.
      masks_NHW: bool, the truth.
      patients: the patient of each slice; patients are what is resampled.
      metrics: metric -> settings; default: every metric of masks with its own defaults (``mask_metrics()``).
      sha256: subject -> hash of what made the predictions; default: of the predictions.
      reference, seed, resamples, margins, ratios, command, environment: as ``run`` takes them.
    Returns:
      claims in the order of metrics, then quantities, then subjects. The order of slices and patients changes none.
    Raises:
      DataError, EvidenceError: arrays that do not fit, are not finite, or hold no slice. SettingsError: names that do not fit.
    """
    data = Masked(None, masks_NHW, patients, source, split)
    truth = Truth.of(data)
    asked = metrics if metrics is not None else {name: {} for name in mask_metrics()}
    tasks = [_task(name, data, settings) for name, settings in asked.items()]
    scored = {name: Scored.of(name, found, truth) for name, found in probabilities.items()}
    hashes = sha256 or {name: sha256_of_bytes(np.ascontiguousarray(p).data) for name, p in probabilities.items()}
    if missing := set(scored) - set(hashes):
        raise SettingsError(f"no sha256 for {', '.join(sorted(missing))}")
    subjects = [Subject(name, hashes[name]) for name in scored]
    margins = dict(margins or {})
    check(subjects, reference, tasks, margins, ratios, 1, resamples, seed)
    found = dict(environment) if environment is not None else environment_of(threads=torch.get_num_threads())
    terms = Terms(reference, seed, resamples, margins, command, found, {"resamples": resamples}, tuple(ratios))
    return concluded(tasks, of_tasks(scored, tasks), subjects, terms)


def mask_metrics() -> tuple[str, ...]:
    """Names of the metrics that need masks and probabilities alone."""
    return tuple(name for name in registry.names(ROOM) if hasattr(registry.find(ROOM, name), "of_masks"))


def _task(name: str, data: Masked, settings: Mapping[str, Any]) -> Task:
    made = task(name, data, **settings)
    if not hasattr(made.plugin, "of_masks"):
        raise DataError(f"{name} needs more than probabilities; from arrays: {', '.join(mask_metrics())}")
    return made

"""Semantic similarity: Spearman correlation of the cosine of two sentence embeddings with people's scores.

Cosines are taken in float64; ties share their mean rank. Pairs are resampled.
Source: D. Cer et al., "SemEval-2017 Task 1: Semantic Textual Similarity", 2017.
"""

from __future__ import annotations

import numpy as np
import torch

from netweight import settings as base
from netweight.errors import DataError, EvidenceError
from netweight.evaluate._bench import Bench, check_finite
from netweight.evaluate._items import Items
from netweight.evaluate._samples import Sample, Sampled, spearman
from netweight.evaluate._subject import Subject
from netweight.evaluate._task import Quantity

SUMMARY = "rank correlation of embedding cosine with people's similarity scores"
DATA = ("pairs",)
QUANTITIES = (Quantity("sts_spearman", "1", "higher"),)


class Settings(base.Settings):
    """Nothing to choose."""


def measure(bench: Bench, data: Items, settings: Settings) -> dict[str, dict[str, Sample]]:
    """The correlation of every subject; one pair is one independent observation.

    Raises:
      DataError: fewer than two pairs, or all scores alike: no ranking to agree with.
      EvidenceError: an embedding is zero, or not finite.
    """
    scores_N = np.array([float(pair.score) for pair in data.items])
    if len(scores_N) < 2 or np.ptp(scores_N) == 0:
        raise DataError(
            f"{data.source}: {len(scores_N)} pairs with {len(set(scores_N))} different scores; need 2 of each"
        )
    found: dict[str, list[np.ndarray]] = {subject.name: [] for subject in bench.subjects}
    done = 0
    for batch in bench.batches(data.items, f"sts_spearman on {data.source}"):
        for subject in bench.subjects:
            found[subject.name].append(_cosines(subject, batch, done))
        done += len(batch)
    name = QUANTITIES[0].name
    return {
        subject: {name: Sampled(np.stack([np.concatenate(parts), scores_N], 1), spearman, "pairs")}
        for subject, parts in found.items()
    }


def _cosines(subject: Subject, pairs, first: int) -> np.ndarray:
    """(B,) cosines of a batch; each text is embedded once, sides apart."""
    sides = []
    for texts in ([pair.first for pair in pairs], [pair.second for pair in pairs]):
        embedded_BD = torch.as_tensor(subject.skill("embed")(texts)).detach().cpu().double()
        if embedded_BD.ndim != 2 or len(embedded_BD) != len(texts):
            raise EvidenceError(
                f"{subject.name}: embeddings of shape {tuple(embedded_BD.shape)} for {len(texts)} texts"
            )
        check_finite(embedded_BD, subject.name, lambda row: f"the embedding of pair {first + row}")
        norm_B1 = embedded_BD.norm(dim=1, keepdim=True)
        if not bool((norm_B1 > 0).all()):
            raise EvidenceError(
                f"{subject.name}: the embedding of pair {first + int(norm_B1.argmin())} is zero: no cosine"
            )
        sides.append(embedded_BD / norm_B1)
    return (sides[0] * sides[1]).sum(1).numpy()

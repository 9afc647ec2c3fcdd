"""One pass over windows, all subjects in lock step: token scores summed per cluster.

The reference's logits are computed once per batch and held while the subjects' come and go one at a time, so nothing is
stored and any number of subjects shares one reference. Peak memory beyond the models: logits of two subjects, 2 B T V
elements (at B = 4, T = 512, V = 49,152 in float32: 2 x 403 MB), plus a few float64 blocks of ``BLOCK`` elements (32 MB
each), because log-probabilities are taken a block of tokens at a time.

Log-probabilities are exact over the full vocabulary, in float64: the KL divergence of a good 8-bit model is about 1e-4
nats, a difference of numbers near 10 in which float32 keeps only two digits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from netweight.errors import DataError, EvidenceError
from netweight.evaluate._bench import Bench, check_finite, checked_logits
from netweight.evaluate._subject import Subject
from netweight.evaluate._windows import Window, padded

BLOCK = 4 * 1024 * 1024  # elements of log-probabilities at a time


@dataclass(frozen=True)
class TokenView:
    """What a token metric sees: N scored tokens at a time, log-probabilities in float64.

    ``reference_NV`` is None for a metric that does not ask for the reference.
    """

    logp_NV: Tensor
    target_N: Tensor
    reference_NV: Tensor | None = None

    @property
    def target_logp_N(self) -> Tensor:
        return self.logp_NV.gather(1, self.target_N[:, None])[:, 0]


@dataclass(frozen=True)
class Scorer:
    """A token metric: ``score`` turns a view into (N, K) float64 values, which are summed per cluster."""

    score: Callable[[TokenView], Tensor]
    needs_reference: bool = False


Sums = dict[str, dict[str, np.ndarray]]  # subject -> scorer -> (C, K)


def walk(bench: Bench, windows: Sequence[Window], clusters: int, scorers: Mapping[str, Scorer], label: str) -> Sums:
    """Sums of every scorer over every cluster, for every subject; the reference has none of what needs a reference.

    Raises:
      DataError: a token id lies beyond a subject's vocabulary.
      EvidenceError: NaN or Inf logits at a scored token, or vocabularies of different size.
    """
    sums: Sums = {subject.name: {} for subject in bench.subjects}
    compared = any(scorer.needs_reference for scorer in scorers.values())
    for batch in bench.batches(windows, label):
        ids_BT, mask_BT = padded(batch)
        rows = _Rows.of(batch, ids_BT)
        held = None
        for subject in bench.subjects:
            logits_BTV = checked_logits(subject, ids_BT, mask_BT)
            rows.check(logits_BTV, held, subject)
            mine = {k: s for k, s in scorers.items() if not (s.needs_reference and subject.name == bench.reference)}
            _score(sums[subject.name], mine, rows, subject, logits_BTV, held, clusters)
            if compared and subject.name == bench.reference:
                held = logits_BTV
            del logits_BTV
    return sums


@dataclass(frozen=True, eq=False)
class _Rows:
    """The scored tokens of a batch: which row of (B * T, V) logits predicts them, their id and their cluster."""

    row_N: Tensor
    target_N: Tensor
    cluster_N: Tensor
    windows: Sequence[Window]
    length: int  # T of the padded batch

    @staticmethod
    def of(windows: Sequence[Window], ids_BT: Tensor) -> _Rows:
        length = ids_BT.shape[1]
        position_N = np.concatenate([w.scored_S + i * length for i, w in enumerate(windows)])
        cluster_N = torch.from_numpy(np.concatenate([w.clusters_S for w in windows]))
        at_N = torch.from_numpy(position_N)
        return _Rows(at_N - 1, ids_BT.flatten()[at_N], cluster_N, windows, length)

    def check(self, logits_BTV: Tensor, held: Tensor | None, subject: Subject) -> None:
        vocabulary = logits_BTV.shape[-1]
        if held is not None and held.shape[-1] != vocabulary:
            raise EvidenceError(
                f"{subject.name}: {vocabulary} logits, the reference has {held.shape[-1]}; "
                "divergence needs the same vocabulary"
            )
        if (largest := int(self.target_N.max())) >= vocabulary:
            raise DataError(f"{subject.name}: token id {largest} with {vocabulary} logits; is this its tokenizer?")

    def where(self, row: int) -> str:
        window, position = divmod(row, self.length)
        return f"{self.windows[window].label}, position {position}"


def _score(
    sums: dict[str, np.ndarray],
    scorers: Mapping[str, Scorer],
    rows: _Rows,
    subject: Subject,
    logits_BTV: Tensor,
    held: Tensor | None,
    clusters: int,
) -> None:
    """Add this batch's scores to ``sums``, a block of tokens at a time."""
    size = max(1, BLOCK // logits_BTV.shape[-1])
    for start in range(0, len(rows.row_N), size):
        row_N = rows.row_N[start : start + size]
        target_N = rows.target_N[start : start + size].to(logits_BTV.device)
        logp_NV = _log_probabilities(logits_BTV, row_N)
        if not bool(torch.isfinite(logp_NV.sum(1)).all()):  # one reduction: a bad element makes its row's sum bad
            check_finite(logp_NV, subject.name, lambda bad, row_N=row_N: rows.where(int(row_N[bad])))
        reference_NV = None if held is None else _log_probabilities(held, row_N).to(logp_NV.device)
        view = TokenView(logp_NV, target_N, reference_NV)
        for name, scorer in scorers.items():
            values_NK = scorer.score(view).cpu()
            total_CK = torch.from_numpy(sums.setdefault(name, np.zeros((clusters, values_NK.shape[1]))))
            total_CK.index_add_(0, rows.cluster_N[start : start + size], values_NK)  # writes into the array


def _log_probabilities(logits_BTV: Tensor, row_N: Tensor) -> Tensor:
    """float64 log-softmax of the chosen rows. A NaN or +Inf logit makes its row NaN; a -Inf logit stays -Inf."""
    chosen_NV = logits_BTV.flatten(0, 1)[row_N.to(logits_BTV.device)]
    return torch.log_softmax(chosen_NV.double(), dim=-1)

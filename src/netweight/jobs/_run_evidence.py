"""Runs as a report takes them: predictions made again, paired by evaluate, pictures of the test slices, what rounding does."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from netweight import evidence
from netweight.claim import Claim
from netweight.data import Segmentation, Split
from netweight.errors import CorruptError, DataError, EvidenceError, ModelError, SettingsError
from netweight.evaluate import segmentation
from netweight.evidence import Gallery, RunInput
from netweight.jobs import _look, _runs
from netweight.jobs._runs import Run
from netweight.progress import Progress
from netweight.train import EVALUATED, Qat, Quantized, Shown

OWN = "test"  # the part of its own slices that a run is tested on; other slices are tested on as a whole


@dataclass
class _Known:
    """A run, and what was found of its data."""

    run: Run
    heading: str
    slices: Segmentation | None = None
    split: Split | None = None
    missing: str = ""
    net: nn.Module | None = None
    quantized: Quantized | None = None
    claims: list[Claim] = field(default_factory=list)
    test_sha256: str = ""
    reference: str = ""
    recomputed: float | None = None


def inputs_of(sources: Sequence[Any], progress: Progress) -> tuple[list[RunInput], list[Gallery]]:
    """Plain data and pictures, in the order of the sources; the first run of equal test slices is their reference.

    Raises:
      ArtifactError: not a finished run. CorruptError: a run is damaged. EvidenceError: it has no claims of its own, or is there twice.
    """
    runs = _runs.told_apart([_runs.read(source.path if isinstance(source, Run) else source) for source in sources])
    if twice := [name for name, count in Counter(run.name for run in runs).items() if count > 1]:
        raise EvidenceError(f"{twice[0]} was named twice; a report shows a run once")
    headings = evidence.headings([(run.name, run.recipe.title) for run in runs])
    known = [_found(run, heading) for run, heading in zip(runs, headings, strict=True)]
    galleries = [_compared(group, progress) for group in _groups(known)]
    made = []
    for done, one in enumerate(known, 1):
        made.append(_input(one))
        progress("what rounding does", done, len(known), one.heading)
    return made, galleries


def _found(run: Run, heading: str) -> _Known:
    """The run with its claims, and its slices where they are still what they were."""
    claims = run.claims()
    if not claims:
        raise EvidenceError(f"{run.path} has no claims: training ended before it was judged; train the run again")
    if all(claim.subject_sha256 != run.weights_sha256 for claim in claims):
        raise EvidenceError(f"{run.path}: its claims are about other weights; train the run again")
    known = _Known(run, heading, claims=[replace(claim, subject=heading) for claim in claims])
    try:
        known.slices, known.split = _runs.slices_of(run)
    except (DataError, CorruptError) as error:
        known.missing = f"its slices were not found as they were ({error})"
        known.test_sha256 = next((str(c.data.get("sha256", "")) for c in claims if c.data.get("split") == OWN), "")
        return known
    known.test_sha256 = _runs.masked(known.slices, known.split.test, OWN).sha256
    try:
        known.net, known.quantized = _runs.net_of(run)
    except (SettingsError, ModelError) as error:
        known.slices = known.split = None
        known.missing = f"its net could not be built ({error})"
    return known


def _groups(known: Sequence[_Known]) -> list[list[_Known]]:
    """Runs whose slices were found, those with the same test slices together."""
    groups: dict[str, list[_Known]] = {}
    for one in known:
        if one.slices is not None:
            groups.setdefault(one.test_sha256, []).append(one)
    return list(groups.values())


def _compared(group: Sequence[_Known], progress: Progress) -> Gallery:
    """Predict every run's test slices; pair the runs' claims with the first one's; choose the pictures."""
    first = group[0]
    slices, split = _there(first)
    rows = list(split.test)
    probabilities = {}
    for done, one in enumerate(group, 1):
        probabilities[one.heading] = predicted(_net(one), slices, rows)
        progress("test slices", done, len(group), one.heading)
    masks, patients = slices.masks[rows], [slices.patients[n] for n in rows]
    many = len(group) > 1
    again = segmentation(
        probabilities, masks, patients, reference=first.heading if many else None, source=slices.source, split=OWN,
        sha256={one.heading: one.run.weights_sha256 for one in group}, seed=first.run.recipe.seed,
        ratios=("auprc",) if many else (), command=_command(group),
    )  # fmt: skip
    for one in group:
        one.reference = first.heading if one is not first else ""
        _judged_again(one, [claim for claim in again if claim.subject == one.heading], paired=many)
    return evidence.gallery(probabilities, slices.images[rows], masks, [slices.names[n] for n in rows], patients)


@torch.inference_mode()
def predicted(net: nn.Module, slices: Segmentation, rows: Sequence[int]) -> np.ndarray:
    """(N, H, W) float32 probabilities of these slices."""
    shown = Shown(slices, rows)
    batches = [net(shown[slice(k, k + EVALUATED)]) for k in range(0, len(rows), EVALUATED)]
    return torch.cat([torch.sigmoid(logits[:, 0].float()) for logits in batches]).numpy()


def _judged_again(one: _Known, again: Sequence[Claim], *, paired: bool) -> None:
    """Its claims about its own test slices with the comparisons of this page where it is paired, and those that only this page has."""
    again = [Claim.from_json(claim.to_json()) for claim in again]  # as claims read from a file
    made = {claim.metric: claim for claim in again}
    one.recomputed = made["auprc"].value
    own, rest = ([c for c in one.claims if (c.data.get("sha256") == one.test_sha256) is mine] for mine in (True, False))
    if paired:  # what was kept may be beside another reference
        own = [replace(c, comparison=made.get(c.metric, c).comparison) for c in own if not c.metric.endswith("_ratio")]
    known = {claim.metric for claim in own}
    data = own[0].data if own else {**again[0].data, "sha256": one.test_sha256}
    one.claims = [*own, *(replace(claim, data=dict(data)) for claim in again if claim.metric not in known), *rest]


def _input(one: _Known) -> RunInput:
    looked = None
    if one.slices is not None and one.split is not None:
        looked = _look.look(one.run, _net(one), one.quantized, one.slices, one.split)  # pyright: ignore[reportArgumentType]
    return RunInput(
        name=one.run.name,
        title=one.run.recipe.title,
        claims=one.claims,
        test_sha256=one.test_sha256,
        reference=one.reference,
        training={**one.run.training, "seconds": one.run.seconds},
        recipe=one.run.recipe.to_table(),
        recipe_toml=one.run.recipe.to_toml(),
        arithmetic=arithmetic(one.run.recipe.qat.qat()),
        weights_bytes=os.path.getsize(one.run.path / _runs.WEIGHTS),
        patients=_patients(one),
        looked=looked,
        missing=one.missing,
        recomputed=one.recomputed,
    )


def arithmetic(qat: Qat) -> Mapping[str, Any]:
    """A row of arithmetic as plain data."""
    operands = {role: operand if isinstance(operand, str) else asdict(operand) for role, operand in qat.operands().items()}  # fmt: skip
    return {"summary": qat.summary, "operands": operands if qat.rounds and qat.learned is None else {}, "learned": qat.learned}  # fmt: skip


def _patients(one: _Known) -> Mapping[str, tuple[str, ...]] | None:
    """Names of patients by part, taken from the slices themselves and not from the split's own lists."""
    if one.slices is None or one.split is None:
        return None
    slices = one.slices
    parts = {"train": one.split.train, "validation": one.split.validation, "test": one.split.test}
    return {part: tuple(sorted({slices.patients[n] for n in rows})) for part, rows in parts.items()}


def _there(one: _Known) -> tuple[Segmentation, Split]:
    if one.slices is None or one.split is None:
        raise DataError(f"{one.run.name}: no slices")
    return one.slices, one.split


def _net(one: _Known) -> nn.Module:
    if one.net is None:
        raise DataError(f"{one.run.name}: no net")
    return one.net


def _command(group: Sequence[_Known]) -> str:
    return shlex.join(["netweight", "report", *(os.path.relpath(one.run.path) for one in group)])

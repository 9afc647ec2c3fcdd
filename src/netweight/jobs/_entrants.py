"""Trained runs and their packed artifacts as they are judged: nets, and slices that none of them has learnt from.

A run is tested on its own split's test patients; on other slices only where none of their patients trained it or chose its weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from netweight import data, runtime
from netweight.artifact import Artifact, open_artifact
from netweight.data import Seen, Segmentation
from netweight.errors import DataError
from netweight.evaluate import Masked, Subject
from netweight.jobs import _runs, _seen
from netweight.jobs._deployed import packed_of
from netweight.jobs._runs import Run
from netweight.jobs._subjects import is_artifact
from netweight.words import counted, some

APART = "0 of these slices and of their patients trained the net or chose its weights, by name and by equal pictures"


@dataclass(frozen=True)
class Entrant:
    """A run; with ``artifact``, what it was packed to."""

    run: Run
    artifact: Artifact | None = None

    @property
    def name(self) -> str:
        return self.run.name if self.artifact is None else f"{self.run.name}/{self.artifact.path.resolve().name}"

    @property
    def path(self) -> Path:
        """Where its claims lie."""
        return self.run.path if self.artifact is None else self.artifact.path

    @property
    def sha256(self) -> str:
        return self.run.weights_sha256 if self.artifact is None else self.artifact.sha256

    @cached_property
    def subject(self) -> Subject:
        """The net in memory: as it was simulated, or the artifact's decoded weights."""
        if self.artifact is not None:
            loaded = runtime.load(self.artifact, kernels="off")
            return _runs.subject(self.name, self.sha256, loaded.module, self.artifact.nbytes)
        net, _ = _runs.net_of(self.run)
        return _runs.subject(self.name, self.sha256, net, (self.run.path / _runs.WEIGHTS).stat().st_size)


def entrant(source: Any) -> Entrant | None:
    """A run's folder, or its packed artifact where it lies in the run's folder; None for anything else."""
    if isinstance(source, Run):
        return Entrant(source)
    if _runs.is_run(source):
        return Entrant(_runs.read(source))
    _runs.refuse_begun(source)
    if not is_artifact(source):
        return None
    found = source if isinstance(source, Artifact) else open_artifact(source)
    if not _runs.is_run(found.path.resolve().parent):
        return None
    run = _runs.read(found.path.parent)
    packed = packed_of(run)
    return Entrant(run, found) if packed is not None and packed.path.resolve() == found.path.resolve() else None


@dataclass(frozen=True)
class Tested:
    """Numbered slices on which a run may be judged."""

    slices: Segmentation
    numbers: tuple[int, ...]
    part: str
    overlap: str = ""  # with what it has learnt from, in words

    @cached_property
    def masked(self) -> Masked:
        """As the judge takes them."""
        return _runs.masked(self.slices, self.numbers, self.part)

    def same(self, other: Tested) -> bool:
        return (self.slices.sha256, self.numbers) == (other.slices.sha256, other.numbers)


def tested(run: Run, source: str | Path | None) -> Tested:
    """The slices a run may be judged on.

    Args:
      source: other slices, by name or path; None, or the slices it was trained on, wherever they lie: its own test patients.
    Raises:
      DataError: a patient of the source trained the run or chose its weights, or that cannot be told.
      CorruptError: the slices or the split are not those of the training.
    """
    if source is None:
        slices, split = _runs.slices_of(run)
        return Tested(slices, split.test, "test")
    slices = data.segmentation(source, size=int(run.training["image"]))
    if slices.sha256 == run.training["data"]["sha256"]:
        return Tested(slices, _runs.split_of(run, slices).test, "test")
    _refuse_known(run, slices)
    return Tested(slices, tuple(range(len(slices))), "all", APART)


def _refuse_known(run: Run, slices: Segmentation) -> None:
    before = _seen.read(run) or _seen_again(run, slices)
    found = data.known(slices, before)
    if found.patients:
        way_out = (
            "A phantom's head goes by its seed and number: give another seed, as phantom:8x4,seed=1, or leave"
            if slices.phantom
            else "Take them out (or give other patients other names), or leave"
        )
        raise DataError(
            f"{counted(len(found.patients), 'patient')} of {slices.source} trained {run.name} or chose its weights ({some(found.patients)}), by its name or by pictures "
            f"({found.slices} of the {len(slices)} slices have equal pictures there): a test on them would say nothing. {way_out} "
            "data away to test on the run's own test patients"
        )


def _seen_again(run: Run, slices: Segmentation) -> Seen:
    """From the training data itself, of a run that kept nothing."""
    try:
        trained, split = _runs.slices_of(run)
    except DataError as error:
        raise DataError(
            f"{run.name} was trained on {run.training['data']['given']}, which is not at hand ({error}), and it keeps no {_seen.FILE}; "
            f"without either nobody can tell whether patients of {slices.source} trained it"
        ) from error
    return data.seen(trained, (*split.train, *split.validation))

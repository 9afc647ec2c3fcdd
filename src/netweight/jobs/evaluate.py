"""evaluate: artifacts and their original, side by side on text that calibration never saw; trained runs on patients they never saw."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from netweight.artifact import Artifact
from netweight.claim import Claim, write_claims
from netweight.errors import SettingsError
from netweight.evaluate import Task
from netweight.evaluate import run as judge
from netweight.files import readable_errors
from netweight.jobs import _overlaps, _subjects, _tasks
from netweight.jobs._deployed import artifact_of
from netweight.jobs._entrants import entrant
from netweight.jobs._judged import judged
from netweight.jobs._subjects import Opened, is_artifact
from netweight.jobs._tasks import Preset
from netweight.models import Model
from netweight.progress import Progress

BATCH_SIZE = 8


def evaluate(
    artifacts: Any,
    *,
    against: Any = None,
    data: str | Path | None = None,
    preset: Preset = "default",
    batch_size: int = 8,
    threads: int = 0,
    out: str | Path | None = None,
    tasks: Sequence[Task] | None = None,
    progress: Progress | None = None,
) -> list[Claim]:
    """See ``netweight.evaluate``."""
    sources = list(artifacts) if isinstance(artifacts, list | tuple) else [artifacts]
    if not sources:
        raise SettingsError("nothing to evaluate; name at least one artifact or model")
    _tasks.check_preset(preset)
    if any(entrant(source) is not None for source in sources):
        if tasks is not None:
            raise SettingsError("trained runs are judged by every metric of masks; tasks are for other models")
        with threads_of(threads):
            return judged(
                sources, against=against, data=data, batch_size=batch_size, threads=threads, out=out, progress=progress
            )
    if data is not None:
        raise SettingsError(
            f"data = {data}: slices are for trained runs, whose training patients are known; of {sources[0]} they are not"
        )
    for source in sources:
        _refuse_packed(source)
    command = "" if tasks is not None else _command(sources, against, preset, batch_size, threads, out)
    with threads_of(threads):
        reference = _subjects.opened(against) if against is not None else None
        into = reference.model.module if reference else None
        found = [_subjects.opened(source, into=into) for source in sources]
        everything = [*([reference] if reference else []), *found]
        _check(everything)
        chosen = list(tasks) if tasks is not None else _tasks.tasks(preset, _reader(everything))
        if reference is None:
            chosen = [t for t in chosen if not getattr(t.plugin, "NEEDS_REFERENCE", False)]
        quantities = {q.name for t in chosen for q in t.quantities}
        claims = judge(
            [one.subject for one in everything],
            reference=reference.subject.name if reference else None,
            tasks=chosen,
            batch_size=batch_size,
            margins={n: m for n, m in _tasks.MARGINS.items() if n in quantities} if reference else None,
            command=command,
            progress=progress,
        )
    _keep(found, claims, reference, out)
    _overlaps.write([one.artifact for one in found if one.artifact is not None], chosen)
    return claims


def _refuse_packed(source: Any) -> None:
    """Raises: SettingsError: packed from a trained run, and taken out of its folder."""
    if is_artifact(source) and "net" in artifact_of(source).manifest.model:
        raise SettingsError(
            f"{source.path if isinstance(source, Artifact) else source} was packed from a trained run, which knows the patients it may be "
            "tested on; evaluate it where it was made, as RUN/packed"
        )


@contextmanager
def threads_of(threads: int) -> Iterator[None]:
    """torch with this many threads; 0 means one per core. Raises: SettingsError: a negative number."""
    if threads < 0:
        raise SettingsError(f"threads = {threads}: must be 0 (one per core) or more")
    before = torch.get_num_threads()
    torch.set_num_threads(threads or os.cpu_count() or 1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _check(everything: Sequence[Opened]) -> None:
    names = [one.subject.name for one in everything]
    if len(set(names)) < len(names):
        raise SettingsError(f"two of {', '.join(names)} share a name; give the artifact folders names of their own")
    kinds = sorted({one.model.kind for one in everything})
    if len(kinds) > 1:
        raise SettingsError(f"models of different kinds ({', '.join(kinds)}) cannot be compared")


def _reader(everything: Sequence[Opened]) -> Model:
    """The model whose tokenizer and longest text decide what is measured: the first that has a tokenizer."""
    return next((one.model for one in everything if one.model.open_tokenizer is not None), everything[0].model)


def _command(
    sources: Sequence[Any], against: Any, preset: str, batch_size: int, threads: int, out: str | Path | None
) -> str:
    """The command line that measures this again, from the folder we are in; "" where a live object was given."""
    words = [_word(source) for source in (*sources, *([] if against is None else [against]))]
    if None in words:
        return ""
    named = words if against is None else [*words[:-1], "--against", words[-1]]
    options = ["--preset", preset]
    options += ["--batch-size", str(batch_size)] if batch_size != BATCH_SIZE else []
    options += ["--threads", str(threads)] if threads else []
    options += ["--out", _word(out)] if out is not None else []
    return shlex.join(["netweight", "evaluate", *map(str, named), *map(str, options)])


def _word(source: Any) -> str | None:
    """How a command line names a model or artifact; a path that starts at the root is told from the folder we are in."""
    if isinstance(source, nn.Module) or (isinstance(source, Model) and source.live):
        return None
    path = source.path if isinstance(source, Artifact) else source.source if isinstance(source, Model) else source
    return os.path.relpath(path) if Path(path).is_absolute() else str(path)


def _keep(found: Sequence[Opened], claims: list[Claim], reference: Opened | None, out: str | Path | None) -> None:
    """Each artifact's claims, and the original's, beside it; or all in one file."""
    if out is not None:
        with readable_errors(Path(out)):
            write_claims(out, claims)
        return
    original = reference.subject.name if reference else None
    for one in found:
        if one.artifact is not None:
            kept = [claim for claim in claims if claim.subject in (one.subject.name, original)]
            with readable_errors(one.artifact.path):
                write_claims(one.artifact.path / "claims.jsonl", kept)

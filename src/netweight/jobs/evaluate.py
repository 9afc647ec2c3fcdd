"""evaluate: artifacts and their original, side by side on text that calibration never saw."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from netweight import data
from netweight.artifact import Artifact, readable_errors, write_atomically
from netweight.claim import Claim, write_claims
from netweight.errors import SettingsError
from netweight.evaluate import Subject, Task
from netweight.evaluate import run as judge
from netweight.jobs import _subjects, _tasks
from netweight.jobs._tasks import Preset
from netweight.progress import Progress

NGRAM = 13
OVERLAP = "overlap.json"


def evaluate(
    artifacts: Any,
    *,
    against: Any = None,
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
    with threads_of(threads):
        found = [_subjects.opened(source) for source in sources]
        reference = _subjects.opened(against) if against is not None else None
        subjects = _named([*([reference[0]] if reference else []), *(subject for subject, _, _ in found)])
        model = (reference or found[0])[1]
        kinds = {m.kind for _, m, _ in found} | {model.kind}
        if len(kinds) > 1:
            raise SettingsError(f"models of different kinds ({', '.join(sorted(kinds))}) cannot be compared")
        tokenizer = model.tokenizer() if model.open_tokenizer is not None else None
        chosen = list(tasks) if tasks is not None else _tasks.tasks(model.kind, preset, tokenizer)
        if reference is None:
            chosen = [t for t in chosen if not getattr(t.plugin, "NEEDS_REFERENCE", False)]
        quantities = {q.name for t in chosen for q in t.quantities}
        claims = judge(
            subjects,
            reference=reference[0].name if reference else None,
            tasks=chosen,
            batch_size=batch_size,
            margins={name: margin for name, margin in _tasks.MARGINS.items() if name in quantities}
            if reference
            else None,
            command=_command(sources, against, preset),
            progress=progress,
        )
    _keep([a for _, _, a in found], subjects[1 if reference else 0 :], claims, reference, out)
    _overlaps([a for _, _, a in found if a is not None], chosen)
    return claims


@contextmanager
def threads_of(threads: int) -> Iterator[None]:
    """torch with this many threads; 0 means one per core."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or os.cpu_count() or 1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _named(subjects: list[Subject]) -> list[Subject]:
    names = [subject.name for subject in subjects]
    if len(set(names)) < len(names):
        raise SettingsError(f"two of {', '.join(names)} share a name; give the artifact folders names of their own")
    return subjects


def _command(sources: Sequence[Any], against: Any, preset: str) -> str:
    """The command line that measures this again; "" where a live object was given."""
    words = [s.path if isinstance(s, Artifact) else s for s in sources]
    if not all(isinstance(word, str | Path) for word in (*words, against or "")):
        return ""
    parts = ["netweight", "evaluate", *map(_shown, words)]
    return " ".join([*parts, *(["--against", _shown(against)] if against else []), "--preset", preset])


def _shown(path: Any) -> str:
    """A path as a reader elsewhere can use it: inside the current folder relative, otherwise its last two parts."""
    path = Path(path)
    if path.is_absolute():
        here = Path.cwd()
        path = path.relative_to(here) if path.is_relative_to(here) else Path(*path.parts[-2:])
    return shlex.quote(str(path))


def _keep(
    artifacts: Sequence[Artifact | None],
    subjects: Sequence[Subject],
    claims: list[Claim],
    reference: Any,
    out: str | Path | None,
) -> None:
    """Each artifact's claims, and the original's, beside it; or all in one file."""
    if out is not None:
        with readable_errors(Path(out)):
            write_claims(out, claims)
        return
    original = reference[0].name if reference else None
    for artifact, subject in zip(artifacts, subjects, strict=True):
        if artifact is not None:
            with readable_errors(artifact.path):
                write_claims(
                    artifact.path / "claims.jsonl", [c for c in claims if c.subject in (subject.name, original)]
                )


def _overlaps(artifacts: Sequence[Artifact], tasks: Sequence[Task]) -> None:
    """How much of each test text calibration had seen, beside each artifact."""
    for artifact in artifacts:
        seen = artifact.manifest.calibration or {}
        name = "/".join(part for part in (seen.get("source"), seen.get("split")) if part)
        rows: list[dict[str, Any]] = []
        for test in _tasks.texts_of(tasks) if name in data.corpora() else []:
            shared = data.shared_ngrams(data.corpus(name), test.documents, n=NGRAM)
            rows.append(
                {
                    "calibration": name,
                    "test": "/".join(part for part in (test.source, test.split) if part),
                    "n": NGRAM,
                    "shared": shared.shared,
                    "share": shared.share_of_b,
                    "examples": list(shared.examples),
                }
            )
        with readable_errors(artifact.path):
            write_atomically(artifact.path / OVERLAP, json.dumps(rows, indent=1, sort_keys=True).encode())

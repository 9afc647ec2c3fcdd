"""Had calibration seen the test? Every text of a claim against the text an artifact was calibrated on, or why not."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from netweight import data
from netweight.artifact import Artifact
from netweight.data import Corpus
from netweight.errors import DataError
from netweight.evaluate import Items, Labelled, Masked, Task, Text
from netweight.files import readable_errors, write_atomically

NGRAM = 13
FILE = "overlap.json"

Test = Text | Items | Labelled | Masked


def write(artifacts: Iterable[Artifact], tasks: Sequence[Task]) -> None:
    """What each artifact's calibration text and the tasks' test texts share, as ``overlap.json`` beside the artifact."""
    tests = tests_of(tasks)
    for artifact in artifacts:
        rows = overlaps(artifact, tests)
        with readable_errors(artifact.path):
            write_atomically(artifact.path / FILE, json.dumps(rows, indent=1, sort_keys=True).encode())


def tests_of(tasks: Sequence[Task]) -> list[Test]:
    """What the tasks measure on, each once."""
    return list({id(task.data): task.data for task in tasks if task.data is not None}.values())


def overlaps(artifact: Artifact, tests: Sequence[Test]) -> list[dict[str, Any]]:
    """One row per test; ``shared`` is None where nobody could look, and then ``why`` says why. No rows without calibration."""
    seen = artifact.manifest.calibration
    if not seen:
        return []
    found = calibration_text(artifact)
    return [{"calibration": _name(seen["source"], seen.get("split", "")), **_row(found, test)} for test in tests]


def calibration_text(artifact: Artifact) -> Corpus | str:
    """The text an artifact was calibrated on, with the hash its manifest states; or in words why it is not to be had."""
    seen = artifact.manifest.calibration or {}
    if "tokens_sha256" not in seen:
        return "calibration used batches given by the caller, not a text that could be read again"
    name = _name(seen["source"], seen.get("split", ""))
    source = name if name in data.corpora() else artifact.recipe.calibration.source  # a path as it was given
    try:
        found = data.corpus(source)
    except DataError as error:
        return f"the calibration text cannot be read again: {error}"
    if found.sha256 != seen.get("sha256"):
        return f"the calibration text {source} is not what it was: its hash differs from the manifest's"
    return found


def _row(calibration: Corpus | str, test: Test) -> dict[str, Any]:
    row = {"test": _name(test.source, test.split), "n": NGRAM}
    texts = texts_of(test)
    if isinstance(calibration, str) or texts is None:
        why = calibration if isinstance(calibration, str) else "the test is not text"
        return row | {"shared": None, "share": None, "examples": [], "why": why}
    shared = data.shared_ngrams(calibration, texts, n=NGRAM)
    return row | {"shared": shared.shared, "share": shared.share_of_b, "examples": list(shared.examples), "why": ""}


def texts_of(test: Test) -> tuple[str, ...] | None:
    """The words of a test as running texts, every answer after its question; None where it has none."""
    if isinstance(test, Text):
        return test.documents
    if isinstance(test, Labelled | Masked):
        return None
    return tuple(text for item in test.items for text in _words(test.kind, item))


def _words(kind: str, item: Any) -> list[str]:
    if kind == "choices":
        return [f"{item.query} {choice}" for choice in item.choices]
    if kind == "context-choices":
        return [f"{context} {item.continuation}" for context in item.context_options]
    if kind == "continuations":
        return [f"{item.context} {item.continuation}"]
    return [item.first, item.second]


def _name(source: str, split: str) -> str:
    return f"{source}/{split}" if split else source

"""``seen.json`` of a run: whom it was trained and chosen on, so that its tests on other data need not have the training data at hand."""

from __future__ import annotations

import json
from pathlib import Path

from netweight import data, provenance
from netweight.data import Seen, Segmentation, Split
from netweight.errors import CorruptError
from netweight.files import write_atomically
from netweight.jobs._runs import Run

FILE = "seen.json"


def write(folder: Path, slices: Segmentation, split: Split) -> str:
    """Patients of all three parts, and pictures of those that the net has learnt from; gives the file's hash."""
    learnt = data.seen(slices, (*split.train, *split.validation))
    table = {
        "patients": {
            "train": list(split.train_patients),
            "validation": list(split.validation_patients),
            "test": list(split.test_patients),
        },
        "pictures": list(learnt.pictures),
    }
    text = json.dumps(table, indent=0, sort_keys=True)
    write_atomically(folder / FILE, text)
    return provenance.sha256_of_bytes(text.encode())


def read(run: Run) -> Seen | None:
    """Who trained the run or chose its weights; None of a run that did not keep it. Raises: CorruptError: not what was kept."""
    path = run.path / FILE
    if "seen" not in run.training or not path.is_file():
        return None
    if provenance.sha256_of_file(path) != run.training["seen"]:
        raise CorruptError(
            f"{path} is not what {run.name} kept of its training: its hash differs from that in training.json"
        )
    table = json.loads(path.read_text(encoding="utf-8"))
    learnt = {*table["patients"]["train"], *table["patients"]["validation"]}
    return Seen(tuple(sorted(learnt)), tuple(table["pictures"]))

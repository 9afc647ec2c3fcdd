"""The folder of further data sets: text, questions and sentence pairs that do not come with Python."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "NETWEIGHT_DATA"
DEFAULT = "../shared/data"


def folder() -> Path | None:
    """The folder that ``NETWEIGHT_DATA`` names, by default ``../shared/data`` seen from where we run; None if it is not there."""
    found = Path(os.environ.get(VARIABLE) or DEFAULT)
    return found if found.is_dir() else None

"""WikiText-2 (Merity et al. 2016, arXiv 1609.07843), tokenized, from the folder ``wikitext2`` under ``NETWEIGHT_DATA``.

``valid`` is the validation text, ``test_a`` every second article of the test text. A document is an article: it starts at a
heading of the first level, `` = Title = ``.
"""

from __future__ import annotations

import re

from netweight.data._corpus import read_text
from netweight.data._folder import folder
from netweight.errors import DataError

SPLITS = ("valid", "test_a")
HEADING = re.compile(r"^(?= = [^=].*[^=] = $)", re.MULTILINE)


def documents(split: str) -> tuple[str, ...]:
    """Articles in order. Raises: DataError: there is no data folder, or the file is not in it."""
    root = folder()
    if root is None:
        raise DataError(f"wikitext2/{split} needs NETWEIGHT_DATA, the folder that holds wikitext2/{split}.txt")
    return tuple(part for part in HEADING.split(read_text(root / "wikitext2" / f"{split}.txt")) if part.strip())

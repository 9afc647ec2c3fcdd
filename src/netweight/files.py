"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def in_place_of(path: Path) -> Iterator[Path]:
    """A file beside ``path`` that takes its place once it is whole, and goes where it cannot be finished."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def write_atomically(path: Path, data: bytes | str) -> None:
    """Text is written as UTF-8."""
    with in_place_of(path) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)

"""Files that are there whole or not at all, and what is said where they cannot be written."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from netweight.errors import ArtifactError, ResourceError


@contextmanager
def in_place_of(path: Path) -> Iterator[Path]:
    """A file beside ``path`` that takes its place once it is whole, and goes where it cannot be finished."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_atomically(path: Path, data: bytes | str) -> None:
    """Text is written as UTF-8."""
    with in_place_of(path) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)


@contextmanager
def readable_errors(where: Path) -> Iterator[None]:
    """System errors while writing, as ours."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ResourceError(
                f"the disk is full while writing {where}: free some space and run the same command to go on"
            ) from error
        raise ArtifactError(f"cannot write {where}: {error}") from error

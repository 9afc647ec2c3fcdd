"""Arrays of an ``.npz`` file, and files that lie in it one after the other."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from netweight.errors import DataError


def holds(path: Path, file: str, keys: set[str]) -> bool:
    """Is this the file, or the folder with it, and are the arrays in it that tell the layout?"""
    found = _file(path, file)
    try:
        with zipfile.ZipFile(found) as archive:
            return {f"{key}.npy" for key in keys} <= set(archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return found.is_file() and found.name == file  # ours, though damaged: load says what is wrong with it


def load(path: Path, file: str, keys: set[str]) -> dict[str, np.ndarray]:
    """The arrays by name. Raises: DataError: missing or damaged, or without one of the arrays."""
    found = _file(path, file)
    try:
        with np.load(found, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except FileNotFoundError as error:
        raise DataError(f"no such file: {found}") from error
    except Exception as error:  # zip, zlib and numpy each have errors of their own
        raise DataError(f"{found} cannot be read: {error}; the file is damaged, copy it again") from error
    if missing := sorted(keys - arrays.keys()):
        raise DataError(f"{found} lacks the arrays {', '.join(missing)}")
    return arrays


def member(data: np.ndarray, offsets: np.ndarray, i: int) -> bytes:
    """The bytes of the i-th file."""
    return data[int(offsets[i]) : int(offsets[i + 1])].tobytes()


def _file(path: Path, file: str) -> Path:
    return path / file if path.is_dir() else path

"""Picture files as arrays, by Pillow; whatever is wrong with one is said with its name and a way out."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from netweight.errors import DataError

GREY = ("1", "L")
COLOUR = ("RGB", "P")
WITH_ALPHA = ("LA", "RGBA")


def image(file: Path | bytes, where: str) -> np.ndarray:
    """(H, W, 3) uint8; a grey picture has three equal channels.

    Args:
      file: a path, or a file's bytes.
      where: how an error names it.
    Raises: DataError: unreadable, several pages, not 8-bit, or partly transparent.
    """
    picture = _opened(file, where)
    if picture.mode in WITH_ALPHA and picture.getchannel("A").getextrema() != (255, 255):
        raise DataError(f"{where} is partly transparent; save it without an alpha channel")
    if picture.mode not in GREY + COLOUR + WITH_ALPHA:
        raise DataError(f"{where} is of Pillow's mode {picture.mode!r}; save it as 8-bit grey or RGB")
    return np.asarray(picture.convert("RGB"))


def mask(file: Path | bytes, where: str) -> np.ndarray:
    """(H, W) bool. The file holds 0 and 1, or 0 and 255; with three channels these are equal.

    Raises: DataError: unreadable, or other values; they are named.
    """
    levels = levels_of(file, where)
    return binary(levels, where)


def levels_of(file: Path | bytes, where: str) -> np.ndarray:
    """(H, W) as stored: the values of a picture with one channel, or with equal ones."""
    levels = np.asarray(_opened(file, where))
    if levels.ndim == 3 and (levels == levels[..., :1]).all():
        levels = levels[..., 0]
    if levels.ndim != 2:
        raise DataError(f"{where}: a mask has one channel, or equal ones; this has {levels.shape[2]} that differ")
    return levels


def binary(levels: np.ndarray, where: str) -> np.ndarray:
    """Levels as bool. Raises: DataError: anything but 0 and 1, or 0 and 255."""
    if levels.dtype == np.bool_:
        return levels
    values = np.unique(levels)
    if not (np.isin(values, (0, 1)).all() or np.isin(values, (0, 255)).all()):
        shown = ", ".join(f"{value:g}" for value in values[:6]) + (", ..." if len(values) > 6 else "")
        raise DataError(
            f"{where} is no binary mask: it holds {len(values)} values ({shown}); needed are 0 and 1, or 0 and 255. "
            "Threshold it first, and save masks as PNG or TIFF, never as JPEG"
        )
    return levels > 0


def _opened(file: Path | bytes, where: str) -> Image.Image:
    try:
        picture = Image.open(io.BytesIO(file) if isinstance(file, bytes) else file)
        pages = getattr(picture, "n_frames", 1)
        picture.load()
    except FileNotFoundError as error:
        raise DataError(f"no such file: {where}") from error
    except Exception as error:  # Pillow's plug-ins raise whatever a broken file makes them stumble over
        raise DataError(
            f"{where} cannot be read as a picture: {error or type(error).__name__}; the file is damaged or of "
            "another kind: copy it again from where it came from, or take it and its mask out"
        ) from error
    if pages > 1:
        raise DataError(f"{where} holds {pages} pages; save one slice a file")
    return picture

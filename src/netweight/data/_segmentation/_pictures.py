"""Picture files as arrays, by Pillow; whatever is wrong with one is said with its name and a way out."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from netweight.errors import DataError
from netweight.words import counted, some

GREY = ("1", "L")
COLOUR = ("RGB", "P")
WITH_ALPHA = ("LA", "RGBA")
WHITE = 255
WHITES = (1, WHITE, 65535)  # in masks of one bit (or of classes), 8 and 16
THRESHOLD = "Threshold it first, and save masks as PNG or TIFF, never as JPEG"


def image(file: Path | bytes, where: str) -> np.ndarray:
    """(H, W, 3) uint8; a grey picture has three equal channels.

    Args:
      file: a path, or a file's bytes.
      where: how an error names it.
    Raises: DataError: unreadable, several pages, not 8-bit, or partly transparent.
    """
    picture = _opened(file, where)
    if picture.mode not in GREY + COLOUR + WITH_ALPHA:
        raise DataError(f"{where} is of Pillow's mode {picture.mode!r}; save it as 8-bit grey or RGB")
    return np.asarray(picture.convert("RGB"))


def mask(file: Path | bytes, where: str) -> np.ndarray:
    """(H, W) bool. The file holds 0 and 1, 0 and 255, or 0 and 65535 (16 bits); with three channels these are equal.

    Raises: DataError: unreadable, partly transparent, or other values; they are named.
    """
    levels = levels_of(file, where)
    return binary(levels, where)


def levels_of(file: Path | bytes, where: str) -> np.ndarray:
    """(H, W) as stored: the values of a picture with one channel, or with equal ones; a palette's colours or indices."""
    picture = _opened(file, where)
    if picture.mode == "P":
        return _levels_of_palette(picture, where)
    levels = np.asarray(picture.convert(picture.mode.removesuffix("A")) if picture.mode in WITH_ALPHA else picture)
    if levels.ndim == 3 and (levels == levels[..., :1]).all():
        levels = levels[..., 0]
    if levels.ndim != 2:
        raise DataError(f"{where}: a mask has one channel, or equal ones; this has {levels.shape[2]} that differ")
    return levels


def binary(levels: np.ndarray, where: str, *, way_out: str = THRESHOLD) -> np.ndarray:
    """Levels as bool. Raises: DataError: anything but 0 and 1, 0 and 255, or 0 and 65535."""
    if levels.dtype == np.bool_:
        return levels
    values = np.unique(levels)
    if not any(np.isin(values, (0, white)).all() for white in WHITES):
        shown = some((f"{value:g}" for value in values), most=6)
        raise DataError(
            f"{where} is no binary mask: it holds {counted(len(values), 'value')} ({shown}); needed are 0 and 1, or 0 and 255. "
            f"{way_out}"
        )
    return levels > 0


def _levels_of_palette(picture: Image.Image, where: str) -> np.ndarray:
    """(H, W) uint8: what is seen, where only black and white are in use; else the indices.

    In many data sets (in the manner of Pascal VOC) the index is the class, and colours only tell classes apart or are not set at all;
    index 0, the background, is black. White at index 0 is believed in a palette of greys alone, since with other colours it may be
    the background's.

    Raises: DataError: which index is background cannot be told.
    """
    indices = np.asarray(picture)
    palette = np.array(picture.getpalette("RGB"), np.uint8).reshape(-1, 3)
    colours = np.zeros((256, 3), np.uint8)  # black where the file's palette is shorter, as it is shown
    colours[: len(palette)] = palette
    grey, black, white = (palette == palette[:, :1]).all(), not colours[0].any(), (palette == WHITE).all(axis=1).any()
    seen = colours[np.unique(indices)]
    if white and (black or grey) and ((seen == 0).all(axis=1) | (seen == WHITE).all(axis=1)).all():
        return colours[indices, 0]
    if black:
        return indices
    raise DataError(
        f"{where}: which colour is background? Its palette is not of black and white, and begins with "
        f"{tuple(colours[0].tolist())} instead of black; save the mask as 8-bit grey, 0 and 255"
    )


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
            "another kind: copy it again from where it came from, or take it out (with its mask, if it has one)"
        ) from error
    if pages > 1:
        raise DataError(f"{where} holds {pages} pages; save one slice a file")
    if picture.mode in WITH_ALPHA and picture.getchannel("A").getextrema() != (255, 255):
        raise DataError(f"{where} is partly transparent; save it without an alpha channel")
    return picture

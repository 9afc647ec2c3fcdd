"""Pictures without masks: which files of a folder they are, one as a net reads it, and what a net says of it at its own size.

Both ways are those of ``_resize``: a picture that is not square stands in the middle of a black square; area resampling shrinks, linear
resampling enlarges.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import interpolate

from netweight.data._segmentation import _files, _pictures, _resize
from netweight.errors import DataError
from netweight.words import counted

SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")


def pictures(folder: str | Path) -> tuple[Path, ...]:
    """The pictures under a folder (PNG, TIFF, JPEG, WebP, BMP, GIF; patients' folders too), by path; hidden files and masks (``*_mask``) are left out.

    Raises: DataError: no such folder, or no picture in it; a folder that cannot be listed or is linked twice, a link to nothing.
    """
    root = Path(folder)
    if not root.is_dir():
        raise DataError(f"{root} is {'a file' if root.exists() else 'not there'}; name a folder of pictures")
    every = sorted(_files.under(root, SUFFIXES))
    found = tuple(file for file in every if not file.stem.endswith(_files.MASK))
    if not found:
        masks = f"; taken for masks: {counted(len(every), 'file')} named *{_files.MASK}" if every else ""
        raise DataError(f"{root} holds no pictures ({', '.join(SUFFIXES)}){masks}")
    return found


def picture(file: str | Path) -> np.ndarray:
    """(H, W, 3) uint8; a grey picture has three equal channels. Raises: DataError: unreadable, several pages, not 8-bit, transparent."""
    return _pictures.image(Path(file), str(file))


def square(image: np.ndarray, size: int) -> np.ndarray:
    """(H, W, 3) uint8 as a net for this size reads it: (size, size, 3) uint8, the same as ``segmentation(..., size=size)`` makes it."""
    return _resize.fit(image, np.zeros(image.shape[:2], bool), size)[0]


def unsquare(values_SS: np.ndarray, height: int, width: int) -> np.ndarray:
    """(S, S) float32 said of a picture's square, at the picture's own size: (height, width) float32."""
    side = max(height, width)
    values = torch.from_numpy(np.ascontiguousarray(values_SS, np.float32))[None, None]
    if side > values.shape[-1]:
        values = interpolate(values, size=(side, side), mode="bilinear", align_corners=False)
    elif side < values.shape[-1]:
        values = interpolate(values, size=(side, side), mode="area")
    top, left = (side - height) // 2, (side - width) // 2
    return values[0, 0, top : top + height, left : left + width].numpy()

"""Magnetic tiles with surface defects (Huang, Qiu, Guo, Wang, Yuan, "Saliency of magnetic tile surface defects"): grey pictures of many sizes.

Exposures exp1 to exp6 are of the same tiles, so the column ``group`` stands for the patient. The masks have soft edges; a pixel
belongs to the defect from 128 of 255 on, as the set's own count of defect pixels has it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from netweight.data._segmentation import _archive, _pictures
from netweight.data._segmentation._collect import Slice

SUMMARY = "tiles.npz of magnetic-tile"
NAMED = {"magnetic-tile": "magnetic-tile"}
NOTE = "a patient is a group of pictures of the same tile"
FILE = "tiles.npz"
KEYS = {"jpeg", "jpeg_offset", "mask_png", "mask_offset", "name", "group"}
THRESHOLD = 128


def recognises(path: Path) -> bool:
    return _archive.holds(path, FILE, KEYS)


def read(path: Path) -> Iterator[Slice]:
    """Tiles with their masks, in the sizes they have."""
    arrays = _archive.load(path, FILE, KEYS)
    for i, name in enumerate(arrays["name"].tolist()):
        image = _pictures.image(_archive.member(arrays["jpeg"], arrays["jpeg_offset"], i), f"{name} in {FILE}")
        levels = _pictures.levels_of(
            _archive.member(arrays["mask_png"], arrays["mask_offset"], i), f"the mask of {name} in {FILE}"
        )
        group = int(arrays["group"][i])
        yield Slice(f"group-{group:03d}", "", i, name, image, levels >= THRESHOLD, f"{name} in {FILE}")

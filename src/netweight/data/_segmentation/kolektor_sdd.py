"""KolektorSDD (ViCoS Ljubljana): surfaces of commutators, some with a crack, 640 x 256 grey.

The set has 50 items of 8 surfaces less one surface, and which is missing is not known here: item = number // 8 holds up to the gap, (number + 1) // 8
after it. The two differ for the numbers 7, 15, ... only, and such a surface makes its two possible items one patient.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from netweight.data._segmentation import _archive, _pictures
from netweight.data._segmentation._collect import Slice
from netweight.errors import DataError

SUMMARY = "surfaces.npz of kolektor-sdd"
NAMED = {"kolektor-sdd": "kolektor-sdd"}
NOTE = "a patient is an item, or two where a surface may belong to either"
FILE = "surfaces.npz"
KEYS = {"png", "offset", "mask", "shape", "index"}
SURFACES = 8


def recognises(path: Path) -> bool:
    return _archive.holds(path, FILE, KEYS)


def read(path: Path) -> Iterator[Slice]:
    """Surfaces with their masks. Raises: DataError: damaged, or masks for another number of surfaces."""
    arrays = _archive.load(path, FILE, KEYS)
    masks, numbers = _masks(arrays["mask"], arrays["shape"]), arrays["index"].tolist()
    if len(masks) != len(numbers):
        raise DataError(f"{FILE} holds {len(numbers)} surfaces and {len(masks)} masks; they do not pair up")
    item = items(numbers)
    for i, number in enumerate(numbers):
        where = f"surface {number} in {FILE}"
        image = _pictures.image(_archive.member(arrays["png"], arrays["offset"], i), where)
        yield Slice(f"item-{item[number]:02d}", "", number, f"surface-{number:03d}", image, masks[i], where)


def items(numbers: list[int]) -> dict[int, int]:
    """For each surface the first of the items that it and its neighbours may belong to."""
    joined = {number // SURFACES + 1 for number in numbers if number % SURFACES == SURFACES - 1}
    found = {}
    for number in numbers:
        item = number // SURFACES
        while item in joined:
            item -= 1
        found[number] = item
    return found


def _masks(packed: np.ndarray, shape: np.ndarray) -> np.ndarray:
    bits, whole = np.unpackbits(packed), int(np.prod(shape))
    if len(bits) < whole:
        raise DataError(f"{FILE}: {len(bits)} pixels of masks, {whole} are needed; the file is damaged, copy it again")
    return bits[:whole].reshape(shape.tolist()).astype(bool)

"""Brain tumours after contrast agent (Jun Cheng, figshare 1512427), 46 slices of 256 x 256: another modality and another label than LGG.

Which slices are of one patient is not known: neighbours often are. So the set is for testing alone. Each slice stands as a patient of its own,
and intervals over such patients are too narrow.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from netweight.data._segmentation import _archive, _pictures
from netweight.data._segmentation._collect import Slice

SUMMARY = "slices256.npz of figshare-brain-t1c"
NAMED = {"figshare-brain-t1c": "figshare-brain-t1c"}
NOTE = "slices of one patient are not known as such: intervals over patients are too narrow"
TEST_ONLY = "which slices are of one patient is not known, so one patient could stand on both sides of a split"
FILE = "slices256.npz"
KEYS = {"image", "mask", "figshare_index"}


def recognises(path: Path) -> bool:
    return _archive.holds(path, FILE, KEYS)


def read(path: Path) -> Iterator[Slice]:
    """Slices with their masks."""
    arrays = _archive.load(path, FILE, KEYS)
    for i, number in enumerate(arrays["figshare_index"].tolist()):
        where = f"slice {number} in {FILE}"
        image = np.repeat(arrays["image"][i][..., None], 3, axis=2)
        mask = _pictures.binary(arrays["mask"][i], f"the mask of {where}")
        yield Slice(f"figshare-{number}", "", number, f"figshare-{number}", image, mask, where)

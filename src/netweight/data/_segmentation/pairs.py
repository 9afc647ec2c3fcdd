"""Folders of patients with one picture a slice beside its mask, as the LGG data set on Kaggle lies (Buda et al. 2019).

``<patient>/<id>_<n>.tif`` and ``<patient>/<id>_<n>_mask.tif``, TIFF or PNG. A folder above the patient's is its site, unless the id says
it itself. Without patient folders the patient is ``<id>``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from netweight.data._segmentation import _files, _pictures, stacked
from netweight.data._segmentation._collect import Slice, site_of
from netweight.errors import DataError

SUMMARY = "patient folders with <id>_<n>.tif beside <id>_<n>_mask.tif (TIFF or PNG)"
NAMED: dict[str, str] = {}
SUFFIXES = (".tif", ".tiff", ".png")
NUMBER = re.compile(r"^(?P<id>.*?)[_-]?(?P<number>\d+)$")


def recognises(path: Path) -> bool:
    """Does the folder hold pictures, and no index that makes them stacks?"""
    return path.is_dir() and not stacked.recognises(path) and next(_files.under(path, SUFFIXES), None) is not None


def read(path: Path) -> Iterator[Slice]:
    """Slices with their masks. Raises: DataError: pictures that do not pair up, or one that cannot be read."""
    homes: dict[str, Path] = {}
    for file, drawn in _files.paired(path, SUFFIXES):
        patient, site = _whose(file, path)
        _files.check_home(homes, patient, file)
        found = NUMBER.match(file.stem)
        name = file.stem if found and found["id"] == patient else f"{patient}/{file.stem}"
        image, mask = _pictures.image(file, str(file)), _pictures.mask(drawn, str(drawn))
        yield Slice(patient, site, int(found["number"]) if found else 0, name, image, mask, str(file))


def _whose(file: Path, root: Path) -> tuple[str, str]:
    """Patient and site of a picture."""
    patient, site = _files.whose(file, root)
    if patient:
        return patient, site
    found = NUMBER.match(file.stem)
    if not found or not found["id"]:
        raise DataError(
            f"whose picture is {file}? It lies in no patient's folder, and its name is not <patient>_<number>; "
            "make a folder for each patient"
        )
    return found["id"], site_of(found["id"])

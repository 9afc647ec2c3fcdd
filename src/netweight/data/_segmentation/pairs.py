"""Folders of patients with one picture a slice beside its mask, as the LGG data set on Kaggle lies (Buda et al. 2019).

``<patient>/<id>_<n>.tif`` and ``<patient>/<id>_<n>_mask.tif``, TIFF or PNG. A folder above the patient's is its site, unless the id says
it itself. Without patient folders the patient is ``<id>``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from netweight.data._segmentation import _pictures, stacked
from netweight.data._segmentation._collect import Slice, site_of
from netweight.errors import DataError

SUMMARY = "patient folders with <id>_<n>.tif beside <id>_<n>_mask.tif (TIFF or PNG)"
NAMED: dict[str, str] = {}
SUFFIXES = (".tif", ".tiff", ".png")
MASK = "_mask"
NUMBER = re.compile(r"^(?P<id>.*?)[_-]?(?P<number>\d+)$")
SHOWN = 3


def recognises(path: Path) -> bool:
    """Does the folder hold pictures, and no index that makes them stacks?"""
    return path.is_dir() and not stacked.recognises(path) and next(_pictures_under(path), None) is not None


def read(path: Path) -> Iterator[Slice]:
    """Slices with their masks. Raises: DataError: pictures that do not pair up, or one that cannot be read."""
    homes: dict[str, Path] = {}
    for file, drawn in _paired(path):
        patient, site = _whose(file, path)
        if homes.setdefault(patient, file.parent) != file.parent:
            raise DataError(
                f"patient {patient!r} lies in two folders, {homes[patient]} and {file.parent}; give different patients "
                "different names, and put one patient's slices in one folder"
            )
        found = NUMBER.match(file.stem)
        name = file.stem if found and found["id"] == patient else f"{patient}/{file.stem}"
        image, mask = _pictures.image(file, str(file)), _pictures.mask(drawn, str(drawn))
        yield Slice(patient, site, int(found["number"]) if found else 0, name, image, mask, str(file))


def _pictures_under(path: Path) -> Iterator[Path]:
    hidden = (file for file in path.rglob("*") if not any(p.startswith(".") for p in file.relative_to(path).parts))
    return (file for file in hidden if file.suffix.lower() in SUFFIXES and file.is_file())


def _paired(path: Path) -> list[tuple[Path, Path]]:
    """Each image with its mask, in the order of their names."""
    images: dict[Path, Path] = {}
    masks: dict[Path, Path] = {}
    for file in sorted(_pictures_under(path)):
        drawn = file.stem.endswith(MASK)
        key = file.with_name(file.stem.removesuffix(MASK))
        kind = masks if drawn else images
        if key in kind:
            raise DataError(f"{kind[key]} and {file} have the same name; keep one of them")
        kind[key] = file
    _check_pairs(images, masks)
    return [(images[key], masks[key]) for key in sorted(images)]


def _check_pairs(images: dict[Path, Path], masks: dict[Path, Path]) -> None:
    bare = [str(images[key]) for key in sorted(images.keys() - masks.keys())]
    orphans = [str(masks[key]) for key in sorted(masks.keys() - images.keys())]
    if not bare and not orphans:
        return
    said = [f"{len(bare)} without a mask ({_some(bare)})"] if bare else []
    said += [f"{len(orphans)} masks without an image ({_some(orphans)})"] if orphans else []
    raise DataError(
        f"images and masks do not pair up: {' and '.join(said)}. The mask of a.png is a{MASK}.png (or .tif) beside it; "
        "an image without a lesion has a mask of zeros"
    )


def _some(files: list[str]) -> str:
    return ", ".join(files[:SHOWN]) + (", ..." if len(files) > SHOWN else "")


def _whose(file: Path, root: Path) -> tuple[str, str]:
    """Patient and site of a picture."""
    folders = file.parent.relative_to(root).parts
    if folders:
        return folders[-1], site_of(folders[-1]) or (folders[-2] if len(folders) > 1 else "")
    found = NUMBER.match(file.stem)
    if not found or not found["id"]:
        raise DataError(
            f"whose picture is {file}? It lies in no patient's folder, and its name is not <patient>_<number>; "
            "make a folder for each patient"
        )
    return found["id"], site_of(found["id"])

"""One tall picture a patient: all its slices below each other, the mask in a second picture of that shape.

``index.json`` maps each patient to a table, of which ``slices``, ``slice_numbers`` and ``institution`` are read where present;
``<patient>.webp`` or ``.png`` is (n R, R), ``<patient>_mask.png`` the same. The folder above one such folder will do.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from netweight.data._corpus import read_text
from netweight.data._segmentation import _files, _pictures
from netweight.data._segmentation._collect import Slice, site_of
from netweight.errors import DataError

SUMMARY = "index.json with <patient>.webp or .png (all slices below each other) beside <patient>_mask.png"
NAMED = {"lgg-mri": "lgg-mri/slices128", "lgg-mri/slices256": "lgg-mri/slices256"}
SUFFIXES = (".webp", ".png")


def recognises(path: Path) -> bool:
    return bool(_homes(path))


def read(path: Path) -> Iterator[Slice]:
    """Slices with their masks. Raises: DataError: an index or a picture that cannot be read, or does not fit the others."""
    homes = _homes(path)
    if len(homes) > 1:
        named = ", ".join(str(home) for home in homes)
        raise DataError(f"{path} holds {len(homes)} folders of stacked images; give one of them: {named}")
    home = homes[0]
    index = _index(home / "index.json")
    files = _files_of(home, set(index))
    for patient in sorted(index):
        yield from _slices(files[patient], files[f"{patient}{_files.MASK}"], patient, index[patient])


def _homes(path: Path) -> list[Path]:
    """Folders with an index: this one, or else those right below it.

    Folders of other layouts may hold an index of something else: one below must name a mask beside it. Beside such a one, what cannot
    be read counts too, as it may be damaged.
    """
    if (path / "index.json").is_file():
        return [path]
    below = {index.parent: _names_a_mask(index) for index in sorted(path.glob("*/index.json"))}
    return [home for home, names in below.items() if names is not False] if True in below.values() else []


def _names_a_mask(path: Path) -> bool | None:
    """None: it cannot be read."""
    try:
        patients = _index(path)
    except DataError:
        return None
    return any((path.parent / f"{patient}_mask.png").is_file() for patient in patients)


def _index(path: Path) -> dict[str, dict[str, Any]]:
    try:
        table = json.loads(read_text(path))
    except ValueError as error:
        raise DataError(f"{path} is not JSON: {error}") from error
    if not isinstance(table, dict) or not all(isinstance(row, dict) for row in table.values()):
        raise DataError(f'{path}: an index is {{"<patient>": {{"slices": 23}}, ...}}')
    return table


def _files_of(path: Path, patients: set[str]) -> dict[str, Path]:
    """Every picture by its name: all are in the index, and every patient of the index has both pictures."""
    pictures = (file for file in path.iterdir() if file.suffix.lower() in SUFFIXES and not file.name.startswith("."))
    found = {key.name: file for key, file in _files.by_name(pictures, SUFFIXES).items()}
    asked = patients | {f"{patient}{_files.MASK}" for patient in patients}
    if found.keys() != asked:
        missing, more = sorted(asked - found.keys()), sorted(found.keys() - asked)
        said = [f"{len(missing)} missing ({', '.join(missing[:3])})"] if missing else []
        said += [f"{len(more)} that the index does not know ({', '.join(more[:3])})"] if more else []
        raise DataError(f"images and masks do not pair up with {path / 'index.json'}: {' and '.join(said)}")
    return found


def _slices(file: Path, drawn: Path, patient: str, row: dict[str, Any]) -> Iterator[Slice]:
    image, mask = _pictures.image(file, str(file)), _pictures.mask(drawn, str(drawn))
    if image.shape[:2] != mask.shape:
        raise DataError(
            f"{file} is {image.shape[0]} x {image.shape[1]} pixels, {drawn} {mask.shape[0]} x {mask.shape[1]}"
        )
    images, masks = _cut(image, row, file), _cut(mask, row, drawn)
    numbers = row.get("slice_numbers", list(range(1, len(images) + 1)))
    if not isinstance(numbers, list) or len(numbers) != len(images) or not all(isinstance(n, int) for n in numbers):
        raise DataError(
            f"{file.with_name('index.json')}: {patient} has {len(images)} slices, but slice_numbers = {numbers!r}"
        )
    site = str(row.get("institution", site_of(patient)))
    for number, one, its_mask in zip(numbers, images, masks, strict=True):
        yield Slice(patient, site, number, f"{patient}_{number}", one, its_mask, f"{file}, slice {number}")


def _cut(tall: np.ndarray, row: dict[str, Any], file: Path) -> np.ndarray:
    """(n R, R, ...) as (n, R, R, ...)."""
    height, width = tall.shape[:2]
    count = height // width
    if not isinstance(row.get("slices", count), int):
        raise DataError(
            f"{file.with_name('index.json')}: slices = {json.dumps(row['slices'])} of {file.stem} is no whole number"
        )
    if height % width or count != row.get("slices", count):
        raise DataError(
            f"{file} is {height} x {width} pixels: {height / width:g} square slices, where index.json says "
            f"{row.get('slices', 'nothing')}; the file and the index are of different cuts"
        )
    return tall.reshape(count, width, width, *tall.shape[2:])

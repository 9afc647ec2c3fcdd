"""NIfTI volumes: ``<name>.nii.gz`` beside ``<name>_mask.nii.gz``, cut across their third axis; read by nibabel, an extra.

Volumes are turned to the axes of the standard (left to right, back to front, feet to head), so slices are axial and rows run
from front to back. Intensities become 0 to 255: zero is the lowest, 255 the 99.5th percentile of the voxels above it.
The patient is the folder's name, or the file's where it lies in none.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from netweight.data._segmentation import _pictures
from netweight.data._segmentation._collect import Slice, site_of
from netweight.errors import DataError

SUMMARY = "NIfTI volumes <name>.nii.gz beside <name>_mask.nii.gz (needs the extra netweight[nifti])"
NAMED: dict[str, str] = {}
SUFFIXES = (".nii.gz", ".nii")
MASK = "_mask"
BRIGHTEST = 99.5  # percentile


def recognises(path: Path) -> bool:
    return path.is_dir() and any(any(path.rglob(f"*{suffix}")) for suffix in SUFFIXES)


def read(path: Path) -> Iterator[Slice]:
    """Slices of every volume. Raises: DataError: no nibabel, volumes that do not pair up, NaN, shapes that differ."""
    nibabel = _nibabel()
    volumes = {_stem(file): file for suffix in SUFFIXES for file in sorted(path.rglob(f"*{suffix}"))}
    for stem in sorted(volumes):
        if str(stem).endswith(MASK):
            _check_image(stem, volumes)
            continue
        drawn = volumes.get(Path(f"{stem}{MASK}"))
        if drawn is None:
            raise DataError(
                f"images and masks do not pair up: {volumes[stem]} has no {stem.name}{MASK}.nii.gz beside it"
            )
        patient = stem.name if stem.parent == path else stem.parent.name
        yield from _slices(nibabel, volumes[stem], drawn, patient, stem.name)


def _nibabel() -> Any:
    try:
        return importlib.import_module("nibabel")
    except ImportError as error:
        raise DataError(
            "NIfTI volumes are read by nibabel, which is not installed: pip install netweight[nifti]"
        ) from error


def _stem(file: Path) -> Path:
    return file.with_name(file.name.removesuffix(".gz").removesuffix(".nii"))


def _check_image(stem: Path, volumes: dict[Path, Path]) -> None:
    if Path(str(stem).removesuffix(MASK)) not in volumes:
        raise DataError(f"images and masks do not pair up: {volumes[stem]} is a mask without an image beside it")


def _slices(nibabel: Any, file: Path, drawn: Path, patient: str, name: str) -> Iterator[Slice]:
    image, levels = _volume(nibabel, file), _volume(nibabel, drawn)
    if image.shape != levels.shape:
        raise DataError(f"{file} has {image.shape} voxels, {drawn} {levels.shape}; resample the mask to its image")
    pixels, mask = _bytes(image), _pictures.binary(levels, str(drawn))
    for k in range(image.shape[2]):
        grey = np.repeat(pixels[:, ::-1, k].T[..., None], 3, axis=2)
        number = f"{patient}_{k + 1}" if name == patient else f"{patient}/{name}_{k + 1}"
        yield Slice(patient, site_of(patient), k + 1, number, grey, mask[:, ::-1, k].T, f"{file}, slice {k + 1}")


def _volume(nibabel: Any, file: Path) -> np.ndarray:
    """(X, Y, Z) float64, left to right, back to front, feet to head."""
    try:
        values = np.asarray(nibabel.as_closest_canonical(nibabel.load(file)).get_fdata())
    except Exception as error:  # nibabel, zlib and numpy each have errors of their own
        raise DataError(f"{file} cannot be read as NIfTI: {error}; the file is damaged, copy it again") from error
    if values.ndim != 3:
        raise DataError(f"{file} has {values.ndim} axes; needed are 3, one volume a file")
    if bad := int((~np.isfinite(values)).sum()):
        raise DataError(f"{file} holds {bad} NaN or Inf of {values.size} voxels; clean the volume")
    return values


def _bytes(values: np.ndarray) -> np.ndarray:
    above = values - values.min()
    top = np.percentile(above[above > 0], BRIGHTEST) if (above > 0).any() else 1.0
    return np.floor(np.clip(above / top, 0, 1) * 255 + 0.5).astype(np.uint8)

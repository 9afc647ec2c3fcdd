"""NIfTI volumes: ``<name>.nii.gz`` beside ``<name>_mask.nii.gz``, cut across their third axis; read by nibabel, an extra.

Volumes are turned to the axes of the standard (left to right, back to front, feet to head), so slices are axial and rows run
from front to back. Intensities become 0 to 255: zero is the lowest, 255 the 99.5th percentile of the voxels above it.
The patient is the folder's name, or the file's where it lies in none; a folder above the patient's is its site, unless the id says it itself.

A mask lies where its image lies: by their affines no voxel may be more than a tenth of a voxel from the one that it is taken for, along any
axis. That is far more than an affine loses as float32, more than all but a few of a hundred lose as a quaternion, and far less than the
half from which on a voxel belongs to its neighbour. The same voxels stored in another order are the same grid.
"""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from netweight.data._segmentation import _files, _pictures
from netweight.data._segmentation._collect import Slice, site_of
from netweight.errors import DataError

SUMMARY = "NIfTI volumes <name>.nii.gz beside <name>_mask.nii.gz (needs the extra netweight[nifti])"
NAMED: dict[str, str] = {}
SUFFIXES = (".nii.gz", ".nii")
BRIGHTEST = 99.5  # percentile
APART = 0.1  # voxels
ONE_LABEL = "Set the voxels of what is to be found to 1, and all others to 0"


def recognises(path: Path) -> bool:
    return path.is_dir() and next(_files.under(path, SUFFIXES), None) is not None


def read(path: Path) -> Iterator[Slice]:
    """Slices of every volume. Raises: DataError: no nibabel, volumes that do not pair up, NaN, shapes or places that differ."""
    nibabel = _nibabel()
    homes: dict[str, Path] = {}
    for file, drawn in _files.paired(path, SUFFIXES):
        name = _files.stem(file, SUFFIXES)
        folder, site = _files.whose(file, path)
        patient = folder or name
        _files.check_home(homes, patient, file)
        for k, (grey, mask) in enumerate(_cut(nibabel, file, drawn), 1):
            number = f"{name}_{k}" if name == patient else f"{patient}/{name}_{k}"
            yield Slice(patient, site or site_of(patient), k, number, grey, mask, f"{file}, slice {k}")


def _nibabel() -> Any:
    try:
        return importlib.import_module("nibabel")
    except ImportError as error:
        raise DataError(
            "NIfTI volumes are read by nibabel, which is not installed: pip install netweight[nifti]"
        ) from error


def _cut(nibabel: Any, file: Path, drawn: Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(Y, X, 3) uint8 and (Y, X) bool by height, rows from front to back."""
    image, levels = _volumes(nibabel, file, drawn)
    pixels, mask = _bytes(image), _pictures.binary(levels, str(drawn), way_out=ONE_LABEL)
    for k in range(image.shape[2]):
        yield np.repeat(pixels[:, ::-1, k].T[..., None], 3, axis=2), mask[:, ::-1, k].T


def _volumes(nibabel: Any, file: Path, drawn: Path) -> tuple[np.ndarray, np.ndarray]:
    """Image and mask, each (X, Y, Z) float64, left to right, back to front, feet to head.

    The mask is first brought to the order in which its image is stored; both are then turned alike.
    """
    image, mask = _loaded(nibabel, file), _loaded(nibabel, drawn)
    place = np.linalg.inv(image.affine) @ mask.affine
    mask = mask.as_reoriented(nibabel.io_orientation(place))
    if image.shape != mask.shape:
        raise DataError(f"{file} has {image.shape} voxels, {drawn} {mask.shape}; resample the mask to its image")
    _check_place(image, mask, file, drawn)
    turn = nibabel.io_orientation(image.affine)
    return image.as_reoriented(turn).get_fdata(), mask.as_reoriented(turn).get_fdata()


def _check_place(image: Any, mask: Any, file: Path, drawn: Path) -> None:
    corners = np.array([(*corner, 1) for corner in itertools.product(*((0, n - 1) for n in image.shape))]).T
    apart = np.abs((np.linalg.inv(image.affine) @ mask.affine @ corners - corners)[:3]).max()
    if apart > APART:
        raise DataError(
            f"{drawn} lies elsewhere than {file}: by their affines voxels are up to {apart:.3g} voxels apart (limit "
            f"{APART}); resample the mask to its image, or give it the image's affine if it was drawn voxel by voxel"
        )


def _loaded(nibabel: Any, file: Path) -> Any:
    """An image of nibabel: (X, Y, Z) float64 as stored, and the affine that gives its voxels a place."""
    try:
        found = nibabel.load(file)
        values = np.asarray(found.get_fdata())
    except Exception as error:  # nibabel, zlib and numpy each have errors of their own
        raise DataError(f"{file} cannot be read as NIfTI: {error}; the file is damaged, copy it again") from error
    if values.ndim != 3:
        raise DataError(f"{file} has {values.ndim} axes; needed are 3, one volume a file")
    if bad := int((~np.isfinite(values)).sum()):
        raise DataError(f"{file} holds {bad} NaN or Inf of {values.size} voxels; clean the volume")
    if not (np.isfinite(found.affine).all() and np.linalg.det(found.affine[:3, :3])):
        raise DataError(f"{file}: its affine gives voxels no size or no place; mend its header")
    return nibabel.Nifti1Image(values, found.affine)


def _bytes(values: np.ndarray) -> np.ndarray:
    above = values - values.min()
    top = np.percentile(above[above > 0], BRIGHTEST) if (above > 0).any() else 1.0
    return np.floor(np.clip(above / top, 0, 1) * 255 + 0.5).astype(np.uint8)

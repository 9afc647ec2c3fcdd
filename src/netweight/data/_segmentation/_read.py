"""``segmentation("lgg-mri")``: slices with masks by name or path. Each kind of source is one file of this folder."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from netweight import registry
from netweight.data._folder import folder
from netweight.data._segmentation._collect import collect
from netweight.data._segmentation._phantom import phantom, settings_of
from netweight.data._segmentation._segmentation import Segmentation
from netweight.errors import DataError, nearest

PLACE = "netweight.data._segmentation"
PHANTOM = "phantom"
ANYONES = (
    "pairs",
    "stacked",
    "nifti",
)  # kinds of everyone's own slices, as they are offered; others are of one data set each


def segmentation(source: str | Path, *, size: int | None = None, seed: int | None = None) -> Segmentation:
    """Slices with masks, by patient, number and name.

    Args:
      source: a name (see ``segmentations``), ``"phantom"`` with settings as in ``"phantom:40x10,contrast=0.2"``, or a path: a folder of
        patients with image and mask files, stacked images with their index, NIfTI volumes, or an ``.npz`` of a kind known here.
      size: pixels along a side. Pictures that are not square are put in the middle of a black square first; then area (to shrink) or
        linear (to enlarge) resampling, masks at one half. None leaves sizes as they are, and they must be equal.
      seed: of the phantoms, instead of their settings' own; other sources are read, not drawn.
    Returns:
      Grey pictures have three equal channels.
    Raises:
      DataError: unknown, missing, empty or damaged; images and masks that do not belong together; a mask that is not binary; mixed
        sizes while size is None. The file is named.
      SettingsError: settings of a phantom.
    """
    if size is not None and size < 1:
        raise DataError(f"size = {size}: a picture has at least 1 pixel along a side")
    name = str(source)
    if not name:
        raise DataError(
            f"the name of the slices is empty; give a path (. is this folder), or one of {', '.join(segmentations())}"
        )
    if name == PHANTOM or name.startswith(f"{PHANTOM}:"):
        return phantom(settings_of(name.partition(":")[2]), size=size, seed=seed)
    kind, path = _found(name)
    return collect(
        kind.read(path),
        source=name if name in segmentations() else path.name,
        size=size,
        test_only=getattr(kind, "TEST_ONLY", ""),
        note=getattr(kind, "NOTE", ""),
    )


def segmentations() -> tuple[str, ...]:
    """Names of the data sets known here; all but the phantoms need the folder that ``NETWEIGHT_DATA`` names."""
    return (PHANTOM, *sorted(name for kind in _kinds() for name in kind.NAMED))


def _kinds() -> list[ModuleType]:
    return [registry.find(PLACE, name) for name in registry.names(PLACE)]


def _found(name: str) -> tuple[ModuleType, Path]:
    """Who reads it, and where it lies."""
    for kind in _kinds():
        if name in kind.NAMED:
            return kind, _named(name, kind.NAMED[name])
    path = Path(name)
    if not path.exists():
        raise DataError(
            f"no segmentation data named {name!r}{nearest(name, segmentations())}; nor is there such a file or folder"
        )
    return _reader(path), path


def _named(name: str, below: str) -> Path:
    root = folder()
    if root is None:
        raise DataError(
            f"{name} needs NETWEIGHT_DATA, the folder that holds {below}; phantoms (--data phantom) need none"
        )
    if not (root / below).exists():
        raise DataError(f"{name} is not in {root}: {root / below} is missing")
    return root / below


def _reader(path: Path) -> ModuleType:
    able = [kind for kind in _kinds() if kind.recognises(path)]
    if len(able) == 1:
        return able[0]
    if not able:
        others = (name for name in registry.names(PLACE) if name not in ANYONES)
        known = "; ".join(registry.find(PLACE, name).SUMMARY for name in (*ANYONES, *others))
        raise DataError(f"{path} holds no slices with masks that are known here. What is read: {known}")
    found = " and ".join(kind.SUMMARY for kind in able)
    raise DataError(f"{path} holds {found}; give a folder with one kind")

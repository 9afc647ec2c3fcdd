"""Files of a folder of patients: all that lie under it, each image with its mask, and whose they are.

Links are followed, as large sets are often put together from them; what a link would bring in twice is refused. Hidden files are not read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from netweight.data._segmentation._collect import site_of
from netweight.errors import DataError
from netweight.words import counted, some

MASK = "_mask"


def under(root: Path, suffixes: tuple[str, ...]) -> Iterator[Path]:
    """Files below a folder whose names end so, in capitals or not.

    Raises: DataError: a folder that cannot be listed or is reached twice, a link to nothing.
    """
    return (file for file in _under(root, {}) if file.name.lower().endswith(suffixes))


def paired(root: Path, suffixes: tuple[str, ...]) -> list[tuple[Path, Path]]:
    """Each image with its mask, ``<name>_mask`` beside it, in the order of their names.

    Raises: DataError: an image or a mask alone, two files of one name, one image under two names; as ``under``.
    """
    named = by_name(under(root, suffixes), suffixes)
    images = {key: file for key, file in named.items() if not key.name.endswith(MASK) or key.name == MASK}
    masks = {key.with_name(key.name.removesuffix(MASK)): file for key, file in named.items() if key not in images}
    _check_pairs(images, masks, suffixes)
    _check_links(images.values())
    return [(images[key], masks[key]) for key in sorted(images)]


def by_name(files: Iterable[Path], suffixes: tuple[str, ...]) -> dict[Path, Path]:
    """Each file by its path without the suffix. Raises: DataError: two of one name."""
    found: dict[Path, Path] = {}
    for file in sorted(files):
        key = file.with_name(stem(file, suffixes))
        if key in found:
            raise DataError(f"{found[key]} and {file} have the same name; keep one of them")
        found[key] = file
    return found


def stem(file: Path, suffixes: tuple[str, ...]) -> str:
    """The name without the longest suffix that it ends with."""
    ending = max((s for s in suffixes if file.name.lower().endswith(s)), key=len, default="")
    return file.name[: len(file.name) - len(ending)]


def whose(file: Path, root: Path) -> tuple[str, str]:
    """Patient and site: the name of its folder, and that of the folder above unless the id says it. "" twice for files right in the root."""
    folders = file.parent.relative_to(root).parts
    if not folders:
        return "", ""
    return folders[-1], site_of(folders[-1]) or (folders[-2] if len(folders) > 1 else "")


def check_home(homes: dict[str, Path], patient: str, file: Path) -> None:
    """Notes where a patient lies. Raises: DataError: it has lain elsewhere before."""
    if homes.setdefault(patient, file.parent) != file.parent:
        raise DataError(
            f"patient {patient!r} lies in two folders, {homes[patient]} and {file.parent}; give different patients "
            "different names, and put one patient's slices in one folder"
        )


def _under(folder: Path, seen: dict[Path, Path]) -> Iterator[Path]:
    """``seen`` maps where a folder truly lies to the path by which it was reached."""
    real = folder.resolve()
    if real in seen:
        raise DataError(f"{seen[real]} and {folder} are one folder, linked, and would be read twice; keep one of them")
    seen[real] = folder
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder} cannot be listed: {error.strerror}; allow it, or take the folder out") from error
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _under(entry, seen)
        elif entry.is_file():
            yield entry
        elif entry.is_symlink():
            raise DataError(f"{entry} is a link to {entry.readlink()}, which is not there; mend the link or remove it")


def _check_pairs(images: dict[Path, Path], masks: dict[Path, Path], suffixes: tuple[str, ...]) -> None:
    bare = [str(images[key]) for key in sorted(images.keys() - masks.keys())]
    orphans = [str(masks[key]) for key in sorted(masks.keys() - images.keys())]
    if not bare and not orphans:
        return
    said = [f"{len(bare)} without a mask ({some(bare)})"] if bare else []
    said += [f"{counted(len(orphans), 'mask')} without an image ({some(orphans)})"] if orphans else []
    first, *others = suffixes
    raise DataError(
        f"images and masks do not pair up: {' and '.join(said)}. The mask of a{first} is a{MASK}{first} "
        f"(or {', '.join(others)}) beside it; an image without a lesion has a mask of zeros"
    )


def _check_links(images: Iterable[Path]) -> None:
    """Masks may be links to one file of zeros; images that are one file would be one slice under two names."""
    found: dict[Path, Path] = {}
    for file in images:
        if (other := found.setdefault(file.resolve(), file)) is not file:
            raise DataError(f"{other} and {file} are one file, linked, and would be read twice; keep one of them")

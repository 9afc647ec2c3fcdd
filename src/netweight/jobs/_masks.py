"""A folder of pictures through a trained net, one at a time as in use: masks written, time taken."""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from netweight import data
from netweight.errors import DataError, ExistsError, SettingsError
from netweight.files import write_atomically
from netweight.jobs._deployed import Deployed, deployed
from netweight.jobs._threads import both_on
from netweight.progress import Progress
from netweight.runtime import bytes_in_memory
from netweight.words import some

WARM_UP = 2  # passes over noise before anything is timed


@dataclass(frozen=True)
class Segmented:
    """What became of a folder of pictures.

    ``unreadable`` holds (file, why) of those that were passed over. Latencies are of the net alone, one picture at a time: seconds,
    over ``len(masks)`` pictures. ``images_per_s`` counts everything: reading, resizing, the net, writing the mask.
    """

    net: str
    path: str
    image: int  # pixels along a side of what the net reads
    threads: int
    threshold: float
    masks: tuple[Path, ...]
    positive: int  # masks with at least one pixel
    unreadable: tuple[tuple[Path, str], ...]
    images_per_s: float
    net_images_per_s: float
    p50_s: float
    p99_s: float
    bytes_in_memory: int


def segmented(
    source: object,
    images: str | Path,
    masks_out: str | Path,
    *,
    threshold: float,
    threads: int,
    require_kernels: bool,
    progress: Progress,
) -> Segmented:
    """Masks of all pictures of a folder, beside each other in another one.

    A picture comes to the net's size as training slices did, and the probabilities to the picture's own size in the same way before
    they meet the threshold. The mask of ``a/b.jpg`` is ``a/b_mask.png``, 8 bits, 0 and 255. A picture that cannot be read is passed over
    and named in the result.

    Raises:
      DataError: no pictures, or none that can be read. SettingsError: a threshold outside 0 to 1, or one folder for both.
      ExistsError: a mask would take the place of a file.
    """
    _check(images, masks_out, threshold)
    wanted = _named(data.pictures(images), Path(images), Path(masks_out))
    with both_on(threads) as count:
        net = deployed(source, require_kernels=require_kernels)
        _warm(net)
        begun = time.perf_counter()
        done, unreadable, positive = _all(net, wanted, threshold, progress)
        seconds = time.perf_counter() - begun
    if not done:
        raise DataError(f"none of the {len(wanted)} pictures can be read; the first: {unreadable[0][1]}")
    times = list(done.values())
    return Segmented(
        net.name, net.path, net.image, count, threshold, tuple(done), positive, tuple(unreadable),
        images_per_s=len(done) / seconds, net_images_per_s=len(times) / sum(times),
        p50_s=statistics.median(times), p99_s=float(np.quantile(times, 0.99)), bytes_in_memory=bytes_in_memory(net.module),
    )  # fmt: skip


def _check(images: str | Path, masks_out: str | Path, threshold: float) -> None:
    if not 0 < threshold <= 1:
        raise SettingsError(f"threshold = {threshold}: the least probability of a found pixel, above 0 and at most 1")
    if Path(masks_out).resolve() == Path(images).resolve():
        raise SettingsError(f"masks would go among the pictures of {images}; name another folder with --masks-out")


def _named(files: Sequence[Path], root: Path, out: Path) -> dict[Path, Path]:
    """Every picture and where its mask goes. Raises: DataError: two would have one mask. ExistsError: something lies there already."""
    wanted: dict[Path, Path] = {}
    for file in files:
        mask = out / file.relative_to(root).with_name(f"{file.stem}_mask.png")
        if (other := wanted.setdefault(mask, file)) is not file:
            raise DataError(f"{other} and {file} would have one mask, {mask}; give one of them another name")
    if there := [str(mask) for mask in wanted if mask.exists()]:
        are = "mask is" if len(there) == 1 else "masks are"
        raise ExistsError(
            f"{len(there)} {are} there already ({some(there)}); choose another folder or remove what lies there"
        )
    return {file: mask for mask, file in wanted.items()}


def _warm(net: Deployed) -> None:
    with torch.inference_mode():
        for _ in range(WARM_UP):
            net.module(net.example())


def _all(
    net: Deployed, wanted: dict[Path, Path], threshold: float, progress: Progress
) -> tuple[dict[Path, float], list[tuple[Path, str]], int]:
    """Seconds of the net by mask written, files that cannot be read, and how many masks are not empty."""
    done: dict[Path, float] = {}
    unreadable: list[tuple[Path, str]] = []
    positive = 0
    for number, (file, mask) in enumerate(wanted.items(), 1):
        try:
            image = data.picture(file)
        except DataError as error:
            unreadable.append((file, str(error)))
        else:
            found, done[mask] = _one(net, image, threshold)
            _write(found, mask)
            positive += bool(found.any())
        progress("pictures", number, len(wanted), file.name)
    return done, unreadable, positive


def _one(net: Deployed, image: np.ndarray, threshold: float) -> tuple[np.ndarray, float]:
    """(H, W) bool, and the seconds that the net took."""
    shown = data.normalise(data.square(image, net.image)[None])
    with torch.inference_mode():
        begun = time.perf_counter()
        logits = net.module(shown)
        seconds = time.perf_counter() - begun
        probabilities = torch.sigmoid(logits[0, 0].float()).numpy()
    return data.unsquare(probabilities, *image.shape[:2]) >= np.float32(threshold), seconds


def _write(mask: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    stream = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).save(stream, "PNG")
    write_atomically(path, stream.getvalue())

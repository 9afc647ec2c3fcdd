"""Test slices with what was found, missed and wrongly reported, as small PNG pictures; which slices are shown follows a rule.

Lesions and false ones are those of the metrics ``lesion_recall`` and ``false_lesions_per_slice``: connected components of a slice,
8-neighbourhood; a lesion is found if at least a tenth of its pixels is predicted, a predicted component is false if it
touches no lesion. Marks differ in form as well as in colour; the colours are Okabe and Ito's, for readers who tell few apart.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage

from netweight.words import counted

THRESHOLD = 0.5  # least probability of a predicted pixel
FOUND = 0.1  # share of a lesion's pixels that must be predicted
SIDE = 256  # pixels of a picture, about
MOST = 12  # pictures of one gallery
WHITE, PREDICTED, MISSED, FALSE = (255, 255, 255), (86, 180, 233), (255, 130, 40), (240, 228, 66)
TOUCHING = np.ones((3, 3), dtype=bool)


@dataclass(frozen=True, eq=False)
class Marks:
    """What a subject did in one slice: masks (H, W) bool, and how many components each has."""

    hit_HW: np.ndarray  # true lesions that were found
    missed_HW: np.ndarray
    predicted_HW: np.ndarray  # predicted components that touch a lesion
    false_HW: np.ndarray
    found: int
    missed: int
    false: int

    @property
    def dice(self) -> float:
        """Of the slice; NaN where there is nothing to find and nothing was predicted."""
        true, said = self.hit_HW | self.missed_HW, self.predicted_HW | self.false_HW
        total = int(true.sum() + said.sum())
        return 2 * int((true & said).sum()) / total if total else float("nan")

    def words(self) -> str:
        """``"2 lesions: 1 found, 1 missed (31 pixels); 1 false alarm (12 pixels)"``."""
        lesions = self.found + self.missed
        parts = [f"{counted(lesions, 'lesion')}: {self.found} found, {self.missed} missed" if lesions else "no lesion"]
        parts[0] += f" ({counted(int(self.missed_HW.sum()), 'pixel')})" if self.missed else ""
        pixels = f" ({counted(int(self.false_HW.sum()), 'pixel')})" if self.false else ""
        return "; ".join([*parts, f"{counted(self.false, 'false alarm')}{pixels}"])


@dataclass(frozen=True)
class Panel:
    """One run's answer to one slice."""

    heading: str
    png: str  # a data: address
    words: str
    dice: float


@dataclass(frozen=True)
class Picture:
    """One slice, beside each other as every run saw it."""

    why: str
    name: str
    patient: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Gallery:
    """Pictures of runs that share their test slices; ``nothing`` are the rules that no slice fits, and what is true of all slices then."""

    headings: tuple[str, ...]
    slices: int
    pictures: tuple[Picture, ...]
    nothing: tuple[tuple[str, str], ...]

    @property
    def columns(self) -> int:
        """Of a row of panels on a wide screen."""
        return balanced(len(self.headings), 6)

    @property
    def columns_medium(self) -> int:
        return balanced(len(self.headings), 3)


def balanced(count: int, most: int) -> int:
    """Columns of at most ``most`` that fill rows evenly: 7 of at most 6 stand as 4 + 3, not as 6 + 1."""
    rows = -(-count // most)
    return -(-count // max(rows, 1))


@dataclass(frozen=True)
class Rule:
    """Why a slice is shown: ``badness`` gives a slice's rank, 0 where the rule does not fit."""

    words: str
    none: str
    rank: Callable[[Marks], float]


RULES = (
    Rule("most missed", "no lesion was missed", lambda m: float(m.missed_HW.sum())),
    Rule(
        "best found",
        "there is none with lesions that were all found without a false alarm",
        lambda m: m.dice if m.found and not m.missed and not m.false else 0.0,
    ),
    Rule("most false pixels", "there was no false alarm", lambda m: float(m.false_HW.sum())),
)


def gallery(
    probabilities: Mapping[str, np.ndarray],
    images_NHWC: np.ndarray,
    masks_NHW: np.ndarray,
    names: Sequence[str],
    patients: Sequence[str],
) -> Gallery:
    """Pictures of the slices that say most: for each rule and run the slice that ranks first (of one run alone the first two).

    Args:
      probabilities: heading -> (N, H, W) float32.
      images_NHWC: uint8, 3 channels. masks_NHW: bool. names, patients: of each slice.
    """
    marks = {heading: [marked(p, m) for p, m in zip(found, masks_NHW, strict=True)] for heading, found in probabilities.items()}  # fmt: skip
    chosen: dict[int, dict[str, list[str]]] = {}  # slice, rule, runs
    nothing = []
    for rule in RULES:
        fits = {heading: _first(rule, found, 2 if len(marks) == 1 else 1) for heading, found in marks.items()}
        nothing += [] if any(fits.values()) else [(rule.words, rule.none)]
        for heading, numbers in fits.items():
            for number in numbers:
                chosen.setdefault(number, {}).setdefault(rule.words, []).append(heading)
    pictures = [
        Picture(
            _why(why, alone=len(marks) == 1), names[n], patients[n],
            tuple(Panel(heading, png(images_NHWC[n], found[n]), found[n].words(), found[n].dice) for heading, found in marks.items()),
        )
        for n, why in list(chosen.items())[:MOST]
    ]  # fmt: skip
    return Gallery(tuple(marks), len(masks_NHW), tuple(pictures), tuple(nothing))


def marked(probabilities_HW: np.ndarray, mask_HW: np.ndarray) -> Marks:
    """What was found, missed and wrongly reported in a slice."""
    said_HW = probabilities_HW >= np.float32(THRESHOLD)
    true_HW, lesions = _labels(mask_HW)
    sizes, hits = np.bincount(true_HW.ravel(), minlength=lesions + 1), np.bincount(true_HW[said_HW], minlength=lesions + 1)  # fmt: skip
    found_C = hits >= FOUND * (1 - 1e-12) * sizes
    found_C[0] = False
    spoken_HW, components = _labels(said_HW)
    on_C = np.bincount(spoken_HW[mask_HW], minlength=components + 1) > 0
    on_C[0] = False
    hit_HW, predicted_HW = found_C[true_HW], on_C[spoken_HW]
    count = int(found_C.sum())
    return Marks(
        hit_HW, mask_HW & ~hit_HW, predicted_HW, said_HW & ~predicted_HW, count, lesions - count, components - int(on_C.sum())
    )  # fmt: skip


def png(image_HWC: np.ndarray, marks: Marks) -> str:
    """The slice in grey with its marks, as a ``data:`` address; the same bytes for the same input."""
    times = max(1, round(SIDE / max(image_HWC.shape[:2])))
    grey = image_HWC.astype(np.float32).mean(-1)
    grey *= 225 / max(float(np.percentile(grey, 99.5)), 1.0)
    shape = (image_HWC.shape[1] * times, image_HWC.shape[0] * times)
    large = Image.fromarray(grey.clip(0, 225).astype(np.uint8)).resize(shape, Image.Resampling.BILINEAR)
    picture = np.repeat(np.asarray(large)[..., None] // 4 * 4, 3, axis=-1)
    _draw(picture, marks, times)
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _draw(picture: np.ndarray, marks: Marks, times: int) -> None:
    """Predicted: filled. Found: a line. Missed: a thick broken line. False: hatched, with a line around."""
    hit, missed, said, false = (
        np.kron(mask, np.ones((times, times), dtype=bool))
        for mask in (marks.hit_HW, marks.missed_HW, marks.predicted_HW, marks.false_HW)
    )
    down, across = np.indices(hit.shape)
    picture[said] = (picture[said] * 0.5 + np.array(PREDICTED) * 0.5).astype(np.uint8)
    picture[false & ((down + across) % 6 < 3)] = FALSE
    picture[_edge(false, 1)] = FALSE
    picture[_edge(hit, 2)] = WHITE
    broken = _edge(missed, 3)
    picture[broken] = (20, 20, 20)
    picture[broken & ((down // 5 + across // 5) % 2 == 0)] = MISSED


def _edge(mask: np.ndarray, width: int) -> np.ndarray:
    """The outermost ``width`` pixels around what is marked."""
    return ndimage.binary_dilation(mask, TOUCHING, iterations=width) & ~mask if mask.any() else mask


def _why(chosen: Mapping[str, Sequence[str]], *, alone: bool) -> str:
    return "; ".join(words if alone else f"{words} by {' and '.join(runs)}" for words, runs in chosen.items())


def _first(rule: Rule, marks: Sequence[Marks], most: int) -> list[int]:
    ranks = np.array([rule.rank(one) for one in marks])
    order = np.argsort(-ranks, kind="stable")[:most]
    return [int(n) for n in order if ranks[n] > 0]


def _labels(mask_HW: np.ndarray) -> tuple[np.ndarray, int]:
    labels, count = ndimage.label(mask_HW, TOUCHING)  # pyright: ignore[reportGeneralTypeIssues]
    return labels, int(count)

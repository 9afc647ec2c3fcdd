"""Phantoms: seeded pictures that look like slices through a brain, with lesions of known size and contrast.

A skull and a brain of ellipsoids, two ventricles, soft texture, a slowly changing bias field, noise; three channels in the manner of
pre-contrast, FLAIR, post-contrast. They let every command run on a machine without data. What is learnt from them says nothing
about patients, so everything made from them is labelled as phantom.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydantic import Field
from scipy.ndimage import gaussian_filter

from netweight.data._segmentation._collect import Slice, collect
from netweight.data._segmentation._segmentation import Segmentation
from netweight.errors import SettingsError
from netweight.settings import Settings, parse

SIZE = 128
HEIGHTS = (-0.5, 0.5)  # of the lowest and the highest slice; half the picture's width is 1
HEAD, BRAIN = (0.74, 0.88, 0.92), (0.66, 0.80, 0.84)  # half axes: across, front to back, upwards
SKULL, TISSUE, VENTRICLE, AIR = (0.55, 0.35, 0.60), (0.42, 0.45, 0.48), (0.18, 0.15, 0.20), (0.02, 0.02, 0.02)
SEEN = (0.3, 1.0, 0.8)  # how much of a lesion's contrast each channel shows
WHITE = 255


class PhantomSettings(Settings):
    """``phantom:40x10,contrast=0.2`` are 40 patients of 10 slices each with these changed."""

    patients: int = Field(24, ge=1, le=10_000)
    slices: int = Field(8, ge=1, le=1_000, description="a patient")
    sites: int = Field(3, ge=1, le=26, description="patients take turns; each site has a brightness of its own")
    without: float = Field(0.2, ge=0, lt=1, description="share of patients without a lesion")
    diameter: float = Field(
        0.22, gt=0, le=0.6, description="of a lesion at its widest, as a share of the picture's width"
    )
    contrast: float = Field(
        0.25, ge=0, le=0.5, description="of a lesion to what it covers in the FLAIR-like channel; white is 1"
    )
    texture: float = Field(0.05, ge=0, le=0.2, description="standard deviation; white is 1")
    noise: float = Field(0.02, ge=0, le=0.2, description="standard deviation; white is 1")
    seed: int = Field(0, ge=0, lt=2**31, description="others are other patients, under other names")
    bias: float = Field(0.15, ge=0, le=0.5, description="largest change of brightness across the picture")


@dataclass(frozen=True)
class Lesion:
    """An ellipsoid: centre and half axes, across, front to back, upwards."""

    centre: tuple[float, float, float]
    axes: tuple[float, float, float]


def settings_of(text: str) -> PhantomSettings:
    """``"40x10,contrast=0.2"`` as settings; either part may be absent. Raises: SettingsError: anything else."""
    values: dict[str, int | float] = {}
    for part in filter(None, text.split(",")):
        key, equals, value = part.partition("=")
        patients, times, slices = part.partition("x")
        if equals:
            values[key.strip()] = _number(value, part)
        elif times and f"{patients}{slices}".isascii() and patients.isdigit() and slices.isdigit():
            values |= {"patients": _number(patients, part), "slices": _number(slices, part)}
        else:
            raise SettingsError(f"phantom:{text}: {part!r} is neither <patients>x<slices> nor <setting>=<number>")
    return parse(PhantomSettings, values, f"phantom:{text}")


def phantom(
    settings: PhantomSettings | None = None, *, size: int | None = None, seed: int | None = None
) -> Segmentation:
    """Phantoms by seed. A patient depends on the seed and its own number alone, not on how many there are.

    Args:
      seed: the settings' own if None. size: pixels along a side, 128 by default; they are drawn at this size, not resized.
    """
    settings, size = settings or PhantomSettings(), SIZE if size is None else size  # pyright: ignore[reportCallIssue]
    seed = settings.seed if seed is None else seed
    slices = [one for patient in range(settings.patients) for one in _patient(patient, settings, size, seed)]
    return collect(slices, source="phantom", size=None, phantom=True)


def _number(value: str, where: str) -> int | float:
    try:
        return float(value) if set(value) & set(".eE") else int(value)
    except ValueError as error:
        raise SettingsError(f"phantom: {where!r}: {value!r} is not a number") from error


def _patient(patient: int, settings: PhantomSettings, size: int, seed: int) -> list[Slice]:
    random = np.random.default_rng([seed, patient])
    site = chr(ord("A") + patient % settings.sites)
    heights = np.linspace(*HEIGHTS, settings.slices) if settings.slices > 1 else np.zeros(1)
    place = _coordinates(size, heights)
    images = _head(place, random, settings, gain=1 + 0.08 * (patient % settings.sites))
    masks = np.zeros(images.shape[:3], bool)
    lesion = _lesion(random, settings, heights)
    if not _without(patient, settings):
        masks = _inside(place, lesion.centre, lesion.axes)
        images = images + settings.contrast * masks[..., None] * np.array(SEEN)
    pixels = np.floor(np.clip(images, 0, 1) * WHITE + 0.5).astype(np.uint8)
    name = f"phantom-{f'{seed}-' if seed else ''}{site}-{patient:04d}"
    return [
        Slice(name, site, k + 1, f"{name}_{k + 1}", pixels[k], masks[k], f"{name}, slice {k + 1}")
        for k in range(settings.slices)
    ]


def _without(patient: int, settings: PhantomSettings) -> bool:
    """Lesion-free patients are spread evenly over each site's; sites begin at different places of the pattern."""
    turn, site = divmod(patient, settings.sites)
    place = turn + (site + 1) / (settings.sites + 1)
    return int((place + 1) * settings.without) > int(place * settings.without)


def _coordinates(size: int, heights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Across (1, 1, W), front to back (1, H, 1) and upwards (S, 1, 1): centres of pixels, -1 to 1 over the picture."""
    along = (2 * np.arange(size) + 1) / size - 1
    return along[None, None, :], along[None, :, None], heights[:, None, None]


def _inside(place: tuple[np.ndarray, ...], centre: tuple[float, ...], axes: tuple[float, ...]) -> np.ndarray:
    """(S, H, W) bool: the pixels within an ellipsoid."""
    across, back, up = (((x - c) / a) ** 2 for x, c, a in zip(place, centre, axes, strict=True))
    return across + back + up <= 1


def _head(
    place: tuple[np.ndarray, ...], random: np.random.Generator, settings: PhantomSettings, *, gain: float
) -> np.ndarray:
    """(S, H, W, 3) float64 without a lesion; white is 1."""
    girth = random.uniform(0.92, 1.04)
    turned = random.uniform(-0.04, 0.04)
    middle = (turned, 0.0, 0.0)
    parts = [(middle, HEAD, SKULL), (middle, BRAIN, TISSUE)]
    parts += [((turned + side * 0.13, -0.05, 0.0), (0.09, 0.28, 0.35), VENTRICLE) for side in (-1, 1)]
    whole = np.broadcast_shapes(*(x.shape for x in place))
    images = np.broadcast_to(np.array(AIR), (*whole, 3)).copy()
    for centre, axes, brightness in parts:
        images[_inside(place, centre, tuple(girth * a for a in axes))] = brightness
    head = _inside(place, middle, tuple(girth * a for a in HEAD))[..., None]
    images += head * settings.texture * _texture(random, whole)[..., None]
    images *= gain * _field(place, random, settings.bias)[..., None]
    return images + settings.noise * random.standard_normal(images.shape)


def _texture(random: np.random.Generator, whole: tuple[int, ...]) -> np.ndarray:
    """Smooth noise of standard deviation 1."""
    soft = gaussian_filter(random.standard_normal(whole), (0.5, whole[1] / 40, whole[2] / 40), mode="wrap")
    return soft / soft.std()


def _field(place: tuple[np.ndarray, ...], random: np.random.Generator, bias: float) -> np.ndarray:
    """A factor around 1 that changes slowly: a plane and a wave, at most ``bias`` away from 1."""
    a, b, c, phase = random.uniform(-1, 1, 4)
    across, back, _ = place
    return 1 + bias * (a * across + b * back + c * np.sin(2 * across + 2 * back + 3 * phase)) / 3


def _lesion(random: np.random.Generator, settings: PhantomSettings, heights: np.ndarray) -> Lesion:
    """Somewhere in the brain, its middle on one of the inner slices, so that its widest cut is seen."""
    longest = settings.diameter  # half an axis; the picture is 2 wide
    across, back = np.array([longest, longest * random.uniform(0.7, 1)])[random.permutation(2)]
    angle, out = random.uniform(0, 2 * np.pi), random.uniform(0.3, 1)
    room = np.maximum(np.array([0.42 - across, 0.55 - back]), 0)
    inner = heights[len(heights) // 4 : len(heights) - len(heights) // 4]
    x, y = room * out * (np.cos(angle), np.sin(angle))
    axes = (float(across), float(back), longest * random.uniform(0.7, 1))
    return Lesion((float(x), float(y), float(random.choice(inner))), axes)

"""Slices as a net reads them, changed at random for training: flips, brightness and contrast, shift, scale and rotation.

The kinds of change and their probabilities are those of Du & Rybakov (arXiv 2605.27616, their code); how far brightness and contrast go is
not said there, 0.2 is taken here. The border that moves in is black and empty. Each sample's changes follow from seed, epoch and
its index alone (``_draws``), bit for bit the same in whichever batch it stands.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import grid_sample

from netweight.data._segmentation._draws import uniforms
from netweight.errors import DataError
from netweight.settings import Settings

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's channels, for values from 0 to 1
DRAWS: tuple[str, ...] = (
    "flip_across",
    "flip_down",
    "light",
    "contrast",
    "brightness",
    "move",
    "right",
    "down",
    "scale",
    "turn",
)


class Augmentation(Settings):
    """How often and how far. All at zero leaves a slice as it is."""

    flip: float = Field(0.5, ge=0, le=1, description="probability, for each of the two directions")
    light: float = Field(0.3, ge=0, le=1, description="probability of another brightness and contrast")
    brightness: float = Field(0.2, ge=0, le=1, description="added at most; white is 1")
    contrast: float = Field(0.2, ge=0, le=1, description="factor 1 - contrast to 1 + contrast")
    move: float = Field(0.3, ge=0, le=1, description="probability of shift, scale and rotation")
    shift: float = Field(0.1, ge=0, le=1, description="at most, as a share of the width and of the height")
    scale: float = Field(0.1, ge=0, lt=1, description="factor 1 - scale to 1 + scale")
    rotate: float = Field(15.0, ge=0, le=180, description="degrees at most, either way")


def to_unit(images: np.ndarray | Tensor) -> Tensor:
    """(B, H, W, 3) uint8 as (B, 3, H, W) float32 from 0 to 1, contiguous."""
    found = torch.from_numpy(np.array(images)) if isinstance(images, np.ndarray) else images
    if found.dtype != torch.uint8 or found.ndim != 4 or found.shape[-1] != 3:
        raise DataError(f"images are {found.dtype} {tuple(found.shape)}; needed: uint8 (B, H, W, 3)")
    return found.permute(0, 3, 1, 2).contiguous().to(torch.float32).div_(255)


def normalise(images: np.ndarray | Tensor) -> Tensor:
    """(B, H, W, 3) uint8 as a net reads it, without augmentation: (B, 3, H, W) float32, ImageNet's mean and deviation taken out."""
    found = to_unit(images)
    mean, std = _mean_std(found)
    return found.sub_(mean).div_(std)


def augment(
    images: Tensor,
    masks: Tensor,
    *,
    seed: int,
    epoch: int,
    indices: Sequence[int] | np.ndarray | Tensor,
    settings: Augmentation | None = None,
) -> tuple[Tensor, Tensor]:
    """New tensors; those given are not changed. Order: flips, light, move, mean and deviation.

    Args:
      images: (B, 3, H, W) float32 from 0 to 1, as ``to_unit`` gives them.
      masks: (B, H, W), bool or any number type; moved with the image, nearest pixel.
      seed, epoch: of the run.
      indices: (B,) of the samples in their data set.
    Returns:
      Images as ``normalise`` gives them, masks in their own type.
    """
    if images.ndim != 4 or masks.shape != (len(images), *images.shape[2:]) or len(indices) != len(images):
        raise DataError(
            f"images {tuple(images.shape)}, masks {tuple(masks.shape)} and {len(indices)} indices do not belong together; "
            "needed: (B, 3, H, W), (B, H, W) and B"
        )
    settings = settings or Augmentation()  # pyright: ignore[reportCallIssue]
    numbers = indices.cpu().numpy() if isinstance(indices, Tensor) else indices
    drawn_B = uniforms(seed, epoch, numbers, len(DRAWS)).tolist()
    found, found_masks = torch.empty_like(images), torch.empty_like(masks)
    mean, std = _mean_std(images)
    for i, row in enumerate(drawn_B):  # one sample fits into a core's cache, a batch does not
        image, mask = _changed(images[i], masks[i], dict(zip(DRAWS, row, strict=True)), settings)
        torch.sub(image, mean, out=found[i]).div_(std)
        found_masks[i].copy_(mask)
    return found, found_masks


def _mean_std(images: Tensor) -> tuple[Tensor, Tensor]:
    """Each (3, 1, 1), where the images lie."""
    mean, std = (torch.tensor(values, device=images.device)[:, None, None] for values in (MEAN, STD))
    return mean, std


def _changed(image: Tensor, mask: Tensor, drawn: dict[str, float], settings: Augmentation) -> tuple[Tensor, Tensor]:
    """(3, H, W) and (H, W): the tensors given where nothing is drawn, otherwise new ones."""
    axes = [axis for axis, name in ((-1, "flip_across"), (-2, "flip_down")) if drawn[name] < settings.flip]
    if axes:
        image, mask = image.flip(axes), mask.flip(axes)
    if drawn["light"] < settings.light:
        factor = 1 + settings.contrast * _both_ways(drawn["contrast"])
        image = (image * factor).add_(settings.brightness * _both_ways(drawn["brightness"])).clamp_(0, 1)
    if drawn["move"] < settings.move:
        grid = _grid(drawn, settings, mask.shape).to(image.device)[None]
        image = grid_sample(image[None], grid, mode="bilinear", padding_mode="zeros", align_corners=False)[0]
        levels = mask[None, None].to(torch.float32)
        moved = grid_sample(levels, grid, mode="nearest", padding_mode="zeros", align_corners=False)
        mask = moved[0, 0].to(mask.dtype)
    return image, mask


def _grid(drawn: dict[str, float], settings: Augmentation, shape: Sequence[int]) -> Tensor:
    """(H, W, 2): where each pixel is read, -1 to 1 over the picture.

    The picture is turned and scaled about its middle, then shifted; rows and columns are counted in pixels, so that a rotation is
    one in pictures that are not square, too.
    """
    height, width = shape
    angle = math.radians(settings.rotate * _both_ways(drawn["turn"]))
    scale = 1 + settings.scale * _both_ways(drawn["scale"])
    cos, sin = math.cos(angle) / scale, math.sin(angle) / scale
    x = torch.arange(width) + 0.5 - width * (0.5 + settings.shift * _both_ways(drawn["right"]))
    y = torch.arange(height) + 0.5 - height * (0.5 + settings.shift * _both_ways(drawn["down"]))
    grid = torch.empty(height, width, 2)
    torch.add(x * (2 / width * cos), (y * (2 / width * sin))[:, None], out=grid[..., 0])
    torch.add(x * (-2 / height * sin), (y * (2 / height * cos))[:, None], out=grid[..., 1])
    return grid


def _both_ways(drawn: float) -> float:
    """[0, 1) as [-1, 1)."""
    return 2 * drawn - 1

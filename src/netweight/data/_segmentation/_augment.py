"""Slices as a net reads them, changed at random for training: flips, brightness and contrast, shift, scale and rotation.

The kinds of change and their probabilities are those of Du & Rybakov (arXiv 2605.27616, their code); how far brightness and contrast go is
not said there, 0.2 is taken here. The border that moves in is black and empty. Each sample's changes follow from seed, epoch and
its index alone (``_draws``), bit for bit the same in whichever batch it stands.
"""

from __future__ import annotations

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
    found = torch.as_tensor(np.array(images) if isinstance(images, np.ndarray) else images)
    if found.dtype != torch.uint8 or found.ndim != 4 or found.shape[-1] != 3:
        raise DataError(f"images are {found.dtype} {tuple(found.shape)}; needed: uint8 (B, H, W, 3)")
    return found.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format).div_(255)


def normalise(images: np.ndarray | Tensor) -> Tensor:
    """(B, H, W, 3) uint8 as a net reads it, without augmentation: (B, 3, H, W) float32, ImageNet's mean and deviation taken out."""
    return _standardised(to_unit(images))


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
    drawn = dict(zip(DRAWS, torch.from_numpy(uniforms(seed, epoch, numbers, len(DRAWS))).unbind(1), strict=True))
    images, masks = images.clone(), masks.clone()
    for name, axis in (("flip_across", -1), ("flip_down", -2)):
        _flip(images, masks, drawn[name] < settings.flip, axis)
    _light(images, drawn, settings)
    _move(images, masks, drawn, settings)
    return _standardised(images), masks


def _standardised(images: Tensor) -> Tensor:
    """In place."""
    mean, std = (torch.tensor(values, device=images.device)[:, None, None] for values in (MEAN, STD))
    return images.sub_(mean).div_(std)


def _flip(images: Tensor, masks: Tensor, chosen_B: Tensor, axis: int) -> None:
    for i in chosen_B.nonzero().flatten().tolist():
        images[i] = images[i].flip(axis)
        masks[i] = masks[i].flip(axis)


def _light(images: Tensor, drawn: dict[str, Tensor], settings: Augmentation) -> None:
    factor_B = 1 + settings.contrast * _both_ways(drawn["contrast"])
    added_B = settings.brightness * _both_ways(drawn["brightness"])
    for i in (drawn["light"] < settings.light).nonzero().flatten().tolist():
        images[i].mul_(factor_B[i].item()).add_(added_B[i].item()).clamp_(0, 1)


def _move(images: Tensor, masks: Tensor, drawn: dict[str, Tensor], settings: Augmentation) -> None:
    chosen = (drawn["move"] < settings.move).nonzero().flatten()
    if not len(chosen):
        return
    grid = _grid({name: drawn[name][chosen] for name in ("right", "down", "scale", "turn")}, settings, images.shape[2:])
    grid, chosen = grid.to(images.device), chosen.to(images.device)
    images[chosen] = grid_sample(images[chosen], grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    levels = masks[chosen][:, None].to(torch.float32)
    moved = grid_sample(levels, grid, mode="nearest", padding_mode="zeros", align_corners=False)
    masks[chosen] = moved[:, 0].to(masks.dtype)


def _grid(drawn: dict[str, Tensor], settings: Augmentation, shape: Sequence[int]) -> Tensor:
    """(M, H, W, 2): where each pixel is read, -1 to 1 over the picture. Element by element, so that a batch cannot change a bit.

    The picture is turned and scaled about its middle, then shifted; rows and columns are counted in pixels, so that a rotation is
    one in pictures that are not square, too.
    """
    height, width = shape
    angle = torch.deg2rad(settings.rotate * _both_ways(drawn["turn"].double()))
    scale = 1 + settings.scale * _both_ways(drawn["scale"].double())
    right, down = (settings.shift * _both_ways(drawn[name].double()) for name in ("right", "down"))
    cos, sin = (torch.cos(angle) / scale)[:, None, None], (torch.sin(angle) / scale)[:, None, None]
    x = (torch.arange(width) + 0.5 - width / 2)[None, None, :] - (right * width)[:, None, None]
    y = (torch.arange(height) + 0.5 - height / 2)[None, :, None] - (down * height)[:, None, None]
    across, back = cos * x + sin * y, cos * y - sin * x
    return torch.stack([across * (2 / width), back * (2 / height)], dim=-1).to(torch.float32)


def _both_ways(drawn: Tensor) -> Tensor:
    """[0, 1) as [-1, 1)."""
    return 2 * drawn - 1

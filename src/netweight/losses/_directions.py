"""Where ``sliced_wasserstein`` looks: (K, D) directions of unit length."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import normalize

from netweight.losses._transport import slope_of_directions

if TYPE_CHECKING:
    from netweight.losses.sliced_wasserstein import Settings


def draw(y_ND: Tensor, x_MD: Tensor, settings: Settings, generator: torch.Generator) -> Tensor:
    """Directions for clouds y and x, in their type and on their device. They carry no gradient."""
    with torch.no_grad():
        return KINDS[settings.directions](y_ND, x_MD, settings, generator)


def _normal(rows: int, width: int, like: Tensor, generator: torch.Generator) -> Tensor:
    """Drawn where the generator is, so that a seed means the same on every device."""
    drawn = torch.randn(rows, width, generator=generator, device=generator.device, dtype=torch.float32)
    return drawn.to(like.device, like.dtype)


def gaussian(y_ND: Tensor, x_MD: Tensor, settings: Settings, generator: torch.Generator) -> Tensor:
    """Uniform on the sphere: normal draws, normalised."""
    return normalize(_normal(settings.projections, x_MD.shape[1], x_MD, generator), dim=-1)


def orthogonal(y_ND: Tensor, x_MD: Tensor, settings: Settings, generator: torch.Generator) -> Tensor:
    """Each uniform on the sphere, and up to D of them at right angles: Q of a normal matrix, signs by R's diagonal."""
    width, sets = x_MD.shape[1], []
    for begin in range(0, settings.projections, width):
        count = min(width, settings.projections - begin)
        q, r = torch.linalg.qr(_normal(count, width, x_MD, generator).T)
        sets.append((q * r.diagonal().sign()).T)
    return torch.cat(sets)


def principal(y_ND: Tensor, x_MD: Tensor, settings: Settings, generator: torch.Generator) -> Tensor:
    """Uniform in the span of the target's leading principal components."""
    rank = min(settings.rank, *x_MD.shape)
    centred = x_MD - x_MD.mean(0)
    values, vectors_DD = torch.linalg.eigh((centred.T @ centred).double())
    leading_RD = vectors_DD[:, values.argsort(descending=True)[:rank]].T.to(x_MD.dtype)
    return normalize(_normal(settings.projections, rank, x_MD, generator) @ leading_RD, dim=-1)


def channels(y_ND: Tensor, x_MD: Tensor, settings: Settings, generator: torch.Generator) -> Tensor:
    """Each within one run of neighbouring channels, the runs taken in turn; the last may be shorter."""
    width, run = x_MD.shape[1], min(settings.channels, x_MD.shape[1])
    drawn = _normal(settings.projections, width, x_MD, generator)
    runs = -(-width // run)
    own = torch.arange(settings.projections).remainder(runs).unsqueeze(1) == torch.arange(width) // run
    return normalize(drawn * own.to(drawn.device), dim=-1)


def most(y_ND: Tensor, x_MD: Tensor, settings: Settings, generator: torch.Generator) -> Tensor:
    """Projected ascent on the sphere from uniform directions, each towards where the clouds differ more (max-sliced)."""
    found_KD = gaussian(y_ND, x_MD, settings, generator)
    for _ in range(settings.ascent):
        found_KD = normalize(
            found_KD + normalize(slope_of_directions(y_ND, x_MD, found_KD, settings.order), dim=-1), dim=-1
        )
    return found_KD


KINDS: dict[str, Callable[[Tensor, Tensor, Settings, torch.Generator], Tensor]] = {
    "gaussian": gaussian,
    "orthogonal": orthogonal,
    "principal": principal,
    "channels": channels,
    "max": most,
}

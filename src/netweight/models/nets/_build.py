"""Find a net by its name and make it, with initial weights that depend on its description alone."""

from __future__ import annotations

import inspect
from types import ModuleType
from typing import Any

import torch
from torch import nn

from netweight import registry, settings
from netweight.errors import ModelError, SettingsError, UnknownName, nearest
from netweight.models.nets._net import Description, Net

ROOM = "netweight.models.nets"


def names() -> tuple[str, ...]:
    """Every net, sorted."""
    return tuple(name.replace("_", "-") for name in registry.names(ROOM))


def sizes(name: str) -> tuple[str, ...]:
    """The sizes a net comes in, smallest first. Raises: UnknownName: no such net."""
    return tuple(_file(name).SIZES)


def unquantized(name: str) -> tuple[str, ...]:
    """Globs on dotted names of the layers that stay in full precision when this net is trained in four bits.

    Raises: UnknownName: no such net.
    Source of those of cnn, vit and swin: Du & Rybakov, arXiv 2605.27616, the authors' code.
    """
    return tuple(_file(name).UNQUANTIZED)


def build(
    name: str,
    size: str,
    *,
    image: int = 256,
    channels: int = 3,
    patch: int | None = None,
    dropout: float | None = None,
    seed: int,
) -> Net:
    """A net in training mode, on the CPU, in float32.

    Args:
      name: one of ``names()``. size: one of ``sizes(name)``.
      image: side of the square images, pixels. channels: of the images.
      patch: pixels along a side of a patch, of vit and swin: 4, 8 or 16. None is the study's 16; half of it gives an image of half
        the side as many tokens.
      dropout: of cnn, vit and swin, the chance in [0, 1) with which what a layer gives is left out in training; of vit and swin also
        that with which a sample skips the last block, falling to 0 at the first. None is the study's: .5 for cnn, .1 for vit and swin.
      seed: of the initial weights, which are a function of the other arguments but dropout; torch's own generators are left as they were.
    Returns:
      Images (B, channels, S, S), logits (B, 1, S, S).
    Raises:
      UnknownName: no such net, or no such size of it. SettingsError: an image side, a patch or a dropout that the net cannot take.
      ModelError: the net is MONAI's, and MONAI is not installed.
    """
    options = {key: value for key, value in (("patch", patch), ("dropout", dropout)) if value is not None}
    values = {"name": name, "size": size, "image": image, "channels": channels, "seed": seed, **options}
    description = settings.parse(Description, values, "net")
    file = _file(name)
    if size not in file.SIZES:
        raise UnknownName(f"size {size!r} is not one of {name}'s, {', '.join(file.SIZES)}{nearest(size, file.SIZES)}")
    for key, value in options.items():
        if key not in inspect.signature(file.make).parameters:
            raise SettingsError(f"{key} = {value}, but {name} takes no {key}")
    if patch is not None and patch not in file.PATCHES:
        raise SettingsError(f"patch = {patch} is not one of {name}'s, {', '.join(map(str, file.PATCHES))}")
    with torch.random.fork_rng(devices=()), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)  # of the CPU alone: torch.manual_seed would reach GPUs too
        net = file.make(size, image, channels, **options)
    net.description = description
    return net


def describe(net: nn.Module) -> dict[str, Any]:
    """name, size, image, channels, seed and, where given, patch and dropout: what ``build`` made the net from.

    Raises: ModelError: ``build`` did not make it.
    """
    if not isinstance(net, Net) or net.description is None:
        raise ModelError(f"a {type(net).__name__} was not made by models.nets.build, and cannot be described by a name")
    return net.description.model_dump(exclude_none=True)


def _file(name: str) -> ModuleType:
    if name not in names():  # a name with _ is not one: two names would make two keys of one net
        raise UnknownName(f"{name!r} is not in nets{nearest(name, names())}")
    return registry.find(ROOM, name.replace("-", "_"))

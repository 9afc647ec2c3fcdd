"""Fold a per-channel scale into the layer that makes the channels and the layers that read them: the model computes the same."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from netweight.errors import ModelError
from netweight.models._family import Feed
from netweight.models._layers import Conv1D, kind_of, matrix_of, set_matrix


def fold(module: nn.Module, feed: Feed, scale_I: Tensor) -> None:
    """Divide the source's output channels by the scale and multiply the layers' columns by it, in place.

    Args:
      module: the root that the feed's names start from.
      scale_I: (I,) positive, one per channel.
    Raises:
      ModelError: a scale that is not positive and finite, or of another width; an unknown layer.
    """
    if not bool((torch.isfinite(scale_I) & (scale_I > 0)).all()):
        raise ModelError(
            f"{feed.source}: every scale must be positive and finite; the smallest is {scale_I.min().item():g}"
        )
    try:
        source = module.get_submodule(feed.source)
        readers = [module.get_submodule(name) for name in feed.layers]
    except AttributeError as error:
        raise ModelError(f"cannot fold a scale at {feed.source}: {error}") from error
    _divide_outputs(source, scale_I)
    for reader in readers:
        weight_OI = matrix_of(reader)
        set_matrix(reader, weight_OI * scale_I.to(weight_OI.dtype))


def _divide_outputs(source: nn.Module, scale_I: Tensor) -> None:
    """A linear layer's rows or a norm's elements, and the bias of either."""
    weight, bias = source.get_parameter("weight"), dict(source.named_parameters(recurse=False)).get("bias")
    width = weight.shape[-1] if isinstance(source, Conv1D) else weight.shape[0]
    if tuple(scale_I.shape) != (width,):
        raise ModelError(f"the scale has shape {tuple(scale_I.shape)}, the source gives {width} channels")
    scale = scale_I.to(weight.dtype)
    with torch.no_grad():
        if kind_of(source) is None or isinstance(source, Conv1D):
            weight.div_(scale)
        else:
            weight.div_(scale[:, None])
        if bias is not None:
            bias.div_(scale)

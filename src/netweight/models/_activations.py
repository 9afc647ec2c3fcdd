"""Round what a layer reads, whenever it runs."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from netweight.errors import ModelError
from netweight.formats import Activations, activations
from netweight.models._layers import CONVS, TRANSPOSED_CONVS


class _Rounding:
    """What runs before a layer; copies of the layer have it too."""

    def __init__(self, format: Activations, axis: int) -> None:
        self.format, self.axis = format, axis

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        if not args or not isinstance(args[0], Tensor):
            raise ModelError(
                f"{type(module).__name__}: its input must be its first argument to be rounded to {self.format.name}"
            )
        return self.format.round(args[0], self.axis), *args[1:]


def round_inputs(module: nn.Module, name: str) -> None:
    """From now on the layer's input is rounded to this format of activations; "" ends it."""
    for key, hook in list(module._forward_pre_hooks.items()):
        if isinstance(hook, _Rounding):
            del module._forward_pre_hooks[key]
    if name:
        module.register_forward_pre_hook(_Rounding(activations(name), channel_axis(module)))


def channel_axis(module: nn.Module) -> int:
    """Where a layer's input has its channels, with or without a batch: last, or before a convolution's positions."""
    return -1 - len(module.kernel_size) if isinstance(module, CONVS + TRANSPOSED_CONVS) else -1


def rounded_inputs(module: nn.Module) -> str:
    """The format that the layer's input is rounded to; "" for none."""
    return next((hook.format.name for hook in module._forward_pre_hooks.values() if isinstance(hook, _Rounding)), "")

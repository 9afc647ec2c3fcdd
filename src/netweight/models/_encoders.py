"""torch's own transformer encoders, which in evaluation do the work of all their layers at once, from weights: layers that were changed must run.

What torch looks at before it does so: ``nn.TransformerEncoderLayer.forward`` of torch 2.13, which among others lets any hook stop it.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

NESTED = "use_nested_tensor"


def one_by_one(module: nn.Module, changed: Callable[[nn.Module], bool]) -> None:
    """Encoders that hold a changed layer run layer by layer, from now on.

    They also keep to plain tensors: nested ones, which an encoder makes of a padded batch, are for the other way.
    """
    for encoder in _encoders(module):
        if any(map(changed, encoder.modules())) and getattr(encoder, NESTED, True):
            encoder.register_forward_pre_hook(_stop)
            if hasattr(encoder, NESTED):
                setattr(encoder, NESTED, False)


def all_at_once(module: nn.Module) -> None:
    """What ``one_by_one`` did, undone."""
    for encoder in _encoders(module):
        for key in [key for key, hook in encoder._forward_pre_hooks.items() if hook is _stop]:
            del encoder._forward_pre_hooks[key]
            if hasattr(encoder, NESTED):
                setattr(encoder, NESTED, True)


def _encoders(module: nn.Module) -> list[nn.Module]:
    return [m for m in module.modules() if isinstance(m, nn.TransformerEncoder | nn.TransformerEncoderLayer)]


def _stop(module: nn.Module, inputs: object) -> None:
    """A hook that does nothing, but is there."""

"""Which tensor overflowed first: run the step again and look at every module's output, then at every gradient."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn


def first_not_finite(module: nn.Module, step: Callable[[], Tensor]) -> str:
    """What held NaN or Inf first, in words: a parameter, the output of a module, a gradient on the way back, or the loss.

    Args:
      step: runs the module forward and gives the loss; its gradients are computed here and thrown away.
    """
    for name, parameter in module.named_parameters():
        if not _finite(parameter):
            return f"the parameter {name}"
    seen: list[str] = []
    with _watching(module, seen), torch.enable_grad():
        loss = step()
        if seen:
            return seen[0]
        if not _finite(loss):
            return "the loss, though every module's output is finite"
        wanted = [p for p in module.parameters() if p.requires_grad]
        found = torch.autograd.grad(loss, wanted, allow_unused=True)
    if seen:
        return seen[0]
    for (name, _), gradient in zip(
        ((n, p) for n, p in module.named_parameters() if p.requires_grad), found, strict=True
    ):
        if gradient is not None and not _finite(gradient):
            return f"the gradient of {name}"
    return "nothing, when the step was run again"


@contextlib.contextmanager
def _watching(module: nn.Module, seen: list[str]) -> Iterator[None]:
    """Names of what is not finite, in the order in which it comes up."""

    def hook(name: str) -> Callable[..., None]:
        def look(_: nn.Module, inputs: Any, output: Any) -> None:
            if not isinstance(output, Tensor):
                return
            if not _finite(output):
                seen.append(f"the output of {name or 'the net'}")
            elif output.requires_grad:
                output.register_hook(
                    lambda g: None if _finite(g) else seen.append(f"the gradient into {name or 'the net'}")
                )

        return look

    handles = [child.register_forward_hook(hook(name)) for name, child in module.named_modules()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor.detach()).all())

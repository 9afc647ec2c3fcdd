"""See what a block's layers are fed: which read the same input, and the statistics of what they read."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from netweight import models
from netweight.compress._parallel import Pool
from netweight.compress._plugin import Accumulator, BatchSums, Moments
from netweight.errors import NotFiniteError

Call = Callable[[Any], Any]  # runs the block on one batch


@dataclass(frozen=True)
class Stage:
    """Layers that read the same tensor, in order of use. ``once``: each is called exactly once per forward pass."""

    layers: tuple[str, ...]
    once: bool = True
    reached: bool = True


class _Reached(Exception):
    """Raised by a hook to leave the forward pass where there is nothing more to see."""


def stages(layers: dict[str, nn.Module], run: Call, batch: Any) -> tuple[Stage, ...]:
    """Groups of layers by the tensor they read, in the order a forward pass reaches them.

    Layers that are called more than once come in stages of their own; those never called come last, not ``once``.
    """
    seen: list[tuple[str, tuple[Any, ...]]] = []
    keep: list[Tensor] = []  # so that no address is used again while we compare

    def note(name: str, module: nn.Module, x: Tensor) -> None:
        keep.append(x)
        seen.append((name, (x.data_ptr(), tuple(x.shape), x.stride(), models.input_geometry(module))))

    with watch(layers, note):
        run(batch)
    calls = [name for name, _ in seen]
    found: dict[Any, list[str]] = {}
    for name, key in seen:
        group = found.setdefault(key if calls.count(name) == 1 else name, [])
        if name not in group:
            group.append(name)
    ordered = [Stage(tuple(group), once=calls.count(group[0]) == 1) for group in found.values()]
    return (*ordered, *(Stage((name,), once=False, reached=False) for name in layers if name not in calls))


def moments(
    groups: Sequence[Stage], layers: dict[str, nn.Module], run: Call, batches: Iterable[Any], pool: Pool
) -> list[Moments | None]:
    """Input statistics of each stage over all batches; None for a stage that no batch reached.

    One stage that is reached once ends each forward pass there.

    Raises:
      NotFiniteError: an input holds NaN or Inf; the layer is named.
    """
    leaders = {stage.layers[0]: index for index, stage in enumerate(groups)}
    leave = len(groups) == 1 and groups[0].once
    local = threading.local()

    def note(name: str, module: nn.Module, x: Tensor) -> None:
        local.sums.append((leaders[name], name, sums_of(module, x)))
        if leave:
            raise _Reached

    def observe(batch: Any) -> list[tuple[int, str, BatchSums]]:
        local.sums = []
        with suppress(_Reached):
            run(batch)
        return local.sums

    totals = [Accumulator() for _ in groups]
    with watch({name: layers[name] for name in leaders}, note):
        for found in pool.map(observe, batches):
            for index, name, sums in found:
                if not bool(torch.isfinite(sums.max_abs).all()):
                    raise NotFiniteError(f"{name}: its calibration inputs hold NaN or Inf")
                totals[index].add(sums)
    return [total.moments() for total in totals]


def channel_axis(module: nn.Module, run: Call, batch: Any) -> int:
    """Which axis of a plain module's output holds its channels: 1, as in (B, C, H, W), or -1, as in (B, T, C).

    It is the one that is as long as the last layer to run has outputs; where both are or neither is, the one that this kind of
    layer gives: a convolution's channels come before its spatial axes, a linear layer's come last.
    """
    layers = {name: found for name, found in module.named_modules() if models.kind_of(found) not in (None, "embedding")}
    calls: list[str] = []
    with watch(layers, lambda name, *_: calls.append(name)):
        output = models.first_tensor(run(batch))
    if output.dim() < 3 or not calls:
        return -1
    last = layers[calls[-1]]
    outputs = models.matrix_shape(last)[0]
    spatial = models.spatial_axes(last)
    first = 1 if not spatial else max(0, output.dim() - spatial - 1)
    fits = output.shape[first] == outputs, output.shape[-1] == outputs
    return first if fits == (True, False) or (fits[0] == fits[1] and spatial) else -1


def sums_of(module: nn.Module, x: Tensor) -> BatchSums:
    """Statistics of one call's input; images are unfolded one at a time so that memory stays small."""
    if not models.is_convolution(module):
        return BatchSums.of(models.stage_input(module, x))
    parts = [BatchSums.of(models.stage_input(module, image)) for image in x.split(1)]
    return BatchSums(
        torch.stack([p.gram for p in parts]).sum(0),
        torch.stack([p.sum_abs for p in parts]).sum(0),
        torch.stack([p.max_abs for p in parts]).amax(0),
        sum(p.n for p in parts),
    )


@contextmanager
def watch(layers: dict[str, nn.Module], note: Callable[[str, nn.Module, Tensor], None]) -> Iterator[None]:
    """While this lasts, ``note(name, module, input)`` is called before each of the layers runs."""

    def hook(name: str) -> Callable[..., None]:
        return lambda module, args, named: note(name, module, args[0] if args else next(iter(named.values())))

    handles = [module.register_forward_pre_hook(hook(name), with_kwargs=True) for name, module in layers.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()

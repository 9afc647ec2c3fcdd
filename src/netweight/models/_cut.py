"""A plain module cut into blocks: modules that its owner names, and every other layer as a block of its own.

Nothing is assumed of how the blocks are joined. A block's inputs are what the module itself feeds it, found by running the module
up to there; skip connections, several inputs and operations between blocks are followed by running them. What a block must be:
called exactly once in a forward pass, beside the other blocks and not inside one of them, and sharing no weight with another.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from netweight import recipe as recipes
from netweight.errors import ModelError, SettingsError, nearest
from netweight.models._family import below
from netweight.models._forward import evaluating, plain_call, readable, run_block
from netweight.models._layers import kind_of
from netweight.models._model import Model
from netweight.models._parts import first_tensor
from netweight.models._stream import materialize

Call = tuple[tuple[Any, ...], dict[str, Any]]  # positional and keyword arguments
Hook = Callable[..., None]
SCALARS = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device, torch.Size)


def cut(model: Model, patterns: Sequence[str], batch: Any) -> Model:
    """The model with its blocks named, in the order in which one forward pass reaches them.

    Where a pattern matches a module and others inside it, the outer one is the block. Layers that lie in none of them become
    blocks of their own; those that do not run on the batch are in no block.

    Args:
      patterns: globs or regular expressions on dotted module names, as a step's ``only``.
      batch: what the module takes; it is run on it once.
    Raises:
      SettingsError: a pattern matches no module with layers, or the model's family already says where its blocks are.
      ModelError: a block does not run, runs more than once or inside another, or shares a weight with another.
      DataError: the module does not take the batch.
    """
    if model.family.blocks:
        raise SettingsError(
            f"blocks = {list(patterns)}: the blocks of a {model.family.name} model are known; leave `blocks` out of the recipe"
        )
    materialize(model, "")
    wanted = _wanted(model, patterns)
    starts = _starts(model, wanted, batch)
    for name in wanted:
        if (times := starts.count(name)) > 1:
            raise ModelError(f"{name} runs {times} times in one pass and cannot be a block; {_WAY_OUT}")
        if not times and any(recipes.matches(pattern, name) for pattern in patterns):
            raise ModelError(f"{name} did not run on the first calibration batch and cannot be a block; name what runs")
    ran = tuple(starts)
    _check_apart(model.module, ran)
    return replace(model, named_blocks=ran)


_WAY_OUT = "name a module that holds all of it in `blocks`, or leave `blocks` out to compress the whole module at once"


def _wanted(model: Model, patterns: Sequence[str]) -> list[str]:
    """The outermost matches that hold layers, and the layers in none of them."""
    layers = [name for name, module in model.module.named_modules() if kind_of(module) is not None]
    lists = (nn.ModuleList, nn.ModuleDict)  # never called: what they hold is
    modules = [name for name, module in model.module.named_modules() if name and not isinstance(module, lists)]
    for pattern in patterns:
        found = [name for name in modules if recipes.matches(pattern, name)]
        if not found:
            raise SettingsError(f"blocks: pattern {pattern!r} matches no module{nearest(pattern, modules)}")
        if not any(below(layer, found) for layer in layers):
            raise SettingsError(f"blocks: pattern {pattern!r} matches {found[0]}, which holds no layer; name what does")
    blocks: list[str] = []
    for name in modules:  # a module comes before what is inside it
        matched = any(recipes.matches(pattern, name) for pattern in patterns)
        if matched and not below(name, blocks) and any(below(layer, [name]) for layer in layers):
            blocks.append(name)
    return [*blocks, *(layer for layer in layers if layer and not below(layer, blocks))]


def _starts(model: Model, names: Sequence[str], batch: Any) -> list[str]:
    """Names of these modules in the order in which one pass calls them. Raises: ModelError: one runs inside another."""
    starts: list[str] = []
    running: list[str] = []

    def begin(name: str) -> Hook:
        def hook(*_: Any) -> None:
            if running:
                raise ModelError(f"{name} runs inside {running[-1]}, and cannot be a block beside it; {_WAY_OUT}")
            running.append(name)
            starts.append(name)

        return hook

    def end(*_: Any) -> None:
        running.pop()

    _watched_pass(model, batch, before={name: begin(name) for name in names}, after=dict.fromkeys(names, end))
    return starts


@torch.no_grad()
def _watched_pass(model: Model, batch: Any, *, before: Mapping[str, Hook], after: Mapping[str, Hook]) -> None:
    """One pass with hooks by the name of the module they belong to; they are gone when it is over."""
    at = model.module.get_submodule
    args, kwargs = plain_call(model, batch)
    with ExitStack() as hooks:
        for name, hook in before.items():
            hooks.enter_context(at(name).register_forward_pre_hook(hook))
        for name, hook in after.items():
            hooks.enter_context(at(name).register_forward_hook(hook))
        with evaluating(model.module), readable(model, 0):
            model.module(*args, **kwargs)


def _check_apart(module: nn.Module, blocks: Sequence[str]) -> None:
    """Raises: ModelError: a parameter or buffer belongs to two blocks, or to a block and to what lies outside."""
    seen: dict[int, tuple[str, str]] = {}
    for name, tensor in [
        *module.named_parameters(remove_duplicate=False),
        *module.named_buffers(remove_duplicate=False),
    ]:
        block = _block_of(name, blocks)
        other, there = seen.setdefault(id(tensor), (name, block))
        if there != block:
            raise ModelError(f"{other} and {name} are one tensor and lie in different blocks; {_WAY_OUT}")


def _block_of(name: str, blocks: Sequence[str]) -> str:
    """The block that a module or tensor lies in; "" for none."""
    return next((block for block in blocks if below(name, [block])), "")


class _Reached(Exception):
    """The block was reached: its arguments are known."""


@contextmanager
def reaching(model: Model, name: str) -> Iterator[Callable[[int, Any], Call]]:
    """While this lasts, ``reach(number, batch)`` runs the module as far as this block and gives what the block is fed.

    Tensors are copies, contiguous. Any number of threads may ask at once.
    Raises:
      ModelError: the block was not reached, or is fed something that may change from one pass to the next.
      DataError: the module does not take this batch.
    """
    local = threading.local()

    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if getattr(local, "asked", False):  # the block may be run by itself meanwhile
            local.call = _copied(args, name), _copied(kwargs, name)
            raise _Reached

    @torch.no_grad()
    def reach(number: int, batch: Any) -> Call:
        args, kwargs = plain_call(model, batch)
        local.asked = True
        try:
            with readable(model, number):
                model.module(*args, **kwargs)
        except _Reached:
            return local.call
        finally:
            local.asked = False
        raise ModelError(
            f"{name} ran on calibration batch 0 and not on batch {number}; a block must run on every batch. {_WAY_OUT}"
        )

    handle = model.module.get_submodule(name).register_forward_pre_hook(hook, with_kwargs=True)
    try:
        with evaluating(model.module):
            yield reach
    finally:
        handle.remove()


def outputs_of_parts(model: Model, batch: Any) -> Iterator[tuple[str, Tensor]]:
    """(block, its output) block after block, then ("", the module's), computed as they are asked for."""
    for name in model.named_blocks:
        with reaching(model, name) as reach:
            call = reach(0, batch)
        yield name, first_tensor(run_block(model.module.get_submodule(name), *call)[0])
    yield "", first_tensor(run_block(model.module, *plain_call(model, batch))[0])


def numbers_kept(model: Model, batch: Any) -> dict[str, tuple[int, int]]:
    """What one pass makes in each block of a plain module: all elements its innermost modules give, and the most one gives.

    The key "" stands for what lies in no block.
    """
    found: dict[str, tuple[int, int]] = {}

    def note(block: str) -> Hook:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                total, most = found.get(block, (0, 0))
                found[block] = total + output.numel(), max(most, output.numel())

        return hook

    innermost = [name for name, module in model.module.named_modules() if next(module.children(), None) is None]
    after = {name: note(_block_of(name, model.named_blocks)) for name in innermost}
    _watched_pass(model, batch, before={}, after=after)
    return found


def tensors_outside(model: Model) -> tuple[str, ...]:
    """Names of the parameters and persistent buffers that lie in no block."""
    return tuple(name for name in model.module.state_dict() if not below(name, model.named_blocks))


def _copied(value: Any, name: str) -> Any:
    """Arguments with every tensor copied. Raises: ModelError: something in them is neither data nor tensors."""
    if isinstance(value, Tensor):
        return value.detach().clone(memory_format=torch.contiguous_format)
    if isinstance(value, SCALARS):
        return value
    if type(value) in (tuple, list):
        return type(value)(_copied(item, name) for item in value)
    if type(value) is dict:
        return {key: _copied(item, name) for key, item in value.items()}
    raise ModelError(
        f"{name} is fed a {type(value).__name__}, which may change from one pass to the next; a block is fed tensors, numbers, "
        f"and tuples, lists or dicts of them. {_WAY_OUT}"
    )

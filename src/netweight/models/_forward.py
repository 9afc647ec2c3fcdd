"""Run a model in three parts, so that only one block need be in memory: the stem, block after block, the tail."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from netweight.errors import DataError, ModelError
from netweight.models._family import base_path, join
from netweight.models._model import Model, blocks
from netweight.models._parts import first_tensor
from netweight.models._stream import materialize, release


@dataclass(frozen=True)
class BlockInputs:
    """One batch on its way into the blocks.

    ``calls[i]`` is what block i gets beside the hidden state: masks, rotary tables. Models that alternate kinds of attention
    give their blocks different masks. Tensors are shared between the calls, so this costs one hidden state.
    """

    hidden: Any  # (B, T, D) before the first block; the first argument of a plain module
    calls: tuple[tuple[tuple[Any, ...], dict[str, Any]], ...]

    def call(self, index: int, hidden: Any = None) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """(args, kwargs) of block ``index``, with this hidden state, or with the one before the first block."""
        rest, kwargs = self.calls[index]
        first = self.hidden if hidden is None else hidden
        return (rest if first is None else (first, *rest)), kwargs


class _Reached(Exception):
    """The last block was reached: everything before the tail has been seen."""


@torch.no_grad()
def capture_block_inputs(model: Model, batches: Iterable[Any], *, keep: bool = False) -> list[BlockInputs]:
    """Run the stem (embeddings, masks, rotary tables) over batches and keep what the blocks would get.

    Only the stem is materialized, unless it already is, and it is released in either case, with whatever is tied to it. For a plain module the batches themselves are the inputs.

    Args:
      keep: leave the stem in memory.
      batches: mappings of keyword arguments such as ``{"input_ids": ids_BT}``, or for a plain module also tensors or tuples.
    Raises:
      DataError: no batches, or a batch that the model does not take.
    """
    names = blocks(model)
    if not model.family.blocks:
        found = [_plain(batch) for batch in batches]
    else:
        base = base_path(model.module)
        stem = [join(base, part) for part in model.family.stem]
        for part in stem:
            materialize(model, part)
        modules = [model.module.get_submodule(name) for name in names]
        found = [_capture(model, modules, batch) for batch in batches]
        for part in () if keep else stem:
            release(model, part)
    if not found:
        raise DataError("there are no batches to run the model on")
    return found


@torch.no_grad()
def run_block(block: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
    """One block on one batch: the positional arguments of the next block, its hidden state first."""
    with evaluating(block):
        return (call_block(block, args, kwargs), *args[1:])


def call_block(block: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """The block's hidden state, or what a plain module gives; in the mode it is in, with gradients where they are wanted."""
    result = block(*args, **kwargs)
    return result[0] if isinstance(result, tuple) else result


@torch.no_grad()
def run_tail(model: Model, hidden: Tensor) -> Tensor:
    """What follows the last block: final norm and head; the hidden state itself where there is neither.

    The parts are materialized and stay so. Poolers and classifiers of encoders are not run: the result is then the last
    hidden state.
    Returns:
      (B, T, V) logits, or (B, T, D).
    """
    base = base_path(model.module)
    parts = [join(base, model.family.norm)] if model.family.norm else []
    if model.family.head and model.family.head in dict(model.module.named_children()):
        parts.append(model.family.head)
    for part in parts:
        materialize(model, part)
        module = model.module.get_submodule(part)
        with evaluating(module):
            hidden = module(hidden)
    return hidden


def run_model(model: Model, module: nn.Module, batch: Any) -> Tensor:
    """The whole model on one batch, in the mode it is in, with gradients where they are wanted.

    Args:
      module: the model's own module or a copy of it.
    Returns:
      (B, T, V) logits of a language model, (B, T, D) last hidden states of an encoder, the first tensor of a plain module's output.
    """
    if model.kind == "causal-lm":
        return module(use_cache=False, **batch).logits
    return final_states(model, module, batch)


def final_states(model: Model, module: nn.Module, batch: Any) -> Tensor:
    """What the head of a language model reads, (B, T, D); of other models the same as ``run_model``."""
    if model.kind == "module":
        args, kwargs = _plain(batch).call(0)
        return first_tensor(module(*args, **kwargs))
    options = {"use_cache": False} if model.kind == "causal-lm" else {}
    return module.get_submodule(base_path(module))(**options, **batch).last_hidden_state


def plain_call(model: Model, batch: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What the whole module is called with for this batch."""
    args, kwargs = _plain(batch).call(0)
    return args, {"use_cache": False, **kwargs} if model.kind == "causal-lm" else kwargs


@contextmanager
def readable(model: Model, number: int) -> Iterator[None]:
    """What a module says of a batch that it does not take, as a ``DataError`` with a way out."""
    try:
        yield
    except (TypeError, ValueError, IndexError, KeyError, AssertionError, RuntimeError) as error:
        raise DataError(
            f"{model.name} does not take calibration batch {number}: {error or type(error).__name__}; a batch is a tensor, a tuple "
            "of positional or a mapping of keyword arguments of its forward, without labels"
        ) from error


def _plain(batch: Any) -> BlockInputs:
    if isinstance(batch, Mapping):
        return BlockInputs(None, (((), dict(batch)),))
    args = tuple(batch) if isinstance(batch, tuple | list) else (batch,)
    return BlockInputs(args[0], ((args[1:], {}),))


def _capture(model: Model, modules: list[nn.Module], batch: Any) -> BlockInputs:
    if not isinstance(batch, Mapping):
        raise DataError(
            f"a {model.family.name} model takes batches like {{'input_ids': ids}}, not a {type(batch).__name__}"
        )
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    with evaluating(model.module), _recording(modules, calls):
        try:
            model.module(**{"use_cache": False, **batch})
        except _Reached:
            pass
        except (TypeError, IndexError, ValueError) as error:
            raise DataError(f"{model.name} does not take this batch: {error}") from error
    if len(calls) != len(modules):
        raise ModelError(f"{model.name} ran {len(calls)} of its {len(modules)} blocks; it cannot be run block by block")
    return BlockInputs(calls[0][0][0], tuple((args[1:], kwargs) for args, kwargs in calls))


@contextmanager
def _recording(modules: list[nn.Module], calls: list[tuple[tuple[Any, ...], dict[str, Any]]]) -> Iterator[None]:
    """While this lasts the blocks note their arguments and hand the hidden state on; the last one stops the run."""

    def stand_in(*args: Any, **kwargs: Any) -> Any:
        if not args:
            args = (kwargs.pop("hidden_states"),)
        calls.append((args, kwargs))
        if len(calls) == len(modules):
            raise _Reached
        return args[0]

    saved = [module.__dict__.get("forward") for module in modules]
    try:
        for module in modules:
            module.forward = stand_in
        yield
    finally:
        for module, forward in zip(modules, saved, strict=True):
            del module.forward
            if forward is not None:
                module.forward = forward


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode, and back to what each submodule was in. Not for two threads on one module at a time."""
    training = [m for m in module.modules() if m.training]
    for m in training:
        m.training = False
    try:
        yield
    finally:
        for m in training:
            m.training = True

"""Hand a block to the method that trains it, and put what it found in place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from netweight import models
from netweight.compress import _observe
from netweight.compress._parallel import Pool, return_memory
from netweight.compress._plugin import Moments
from netweight.compress._problem import Problem, Reconstruction
from netweight.compress._select import Plan
from netweight.compress._solve import Done, measured
from netweight.errors import CompressError, FormatError, NotFiniteError
from netweight.models import Feed


@dataclass(frozen=True, eq=False)
class Site:
    """A block as the walker found it: how to run it on a batch, and what its original gave.

    ``forward(module, number, quantized)`` feeds it the states of the quantized or of the original model. ``again`` are the
    original block's outputs on the quantized model's states, where a method wants them.
    """

    module: nn.Module
    name: str
    forward: Callable[[nn.Module, int, bool], Tensor]
    targets: Sequence[Tensor]
    again: Sequence[Tensor] | None
    channels: int = -1  # axis of its outputs that holds channels


def floating(name: str, output: Any) -> Tensor:
    """The one tensor that training is to come close to. Raises: CompressError: it holds no floating-point numbers."""
    found = models.first_tensor(output)
    if not found.is_floating_point():
        raise CompressError(
            f"{name} gives {str(found.dtype).removeprefix('torch.')}, and training needs floating-point outputs; wrap it in a module "
            "that gives what comes before (logits, not classes)"
        )
    return found


@dataclass(frozen=True, eq=False)
class Watched:
    """How to see what the block's layers read, batch by batch; and what else a problem needs."""

    run: _observe.Call
    inputs: Sequence[Any]
    feeds: tuple[Feed, ...]
    pool: Pool
    seed: int

    def moments(self, layers: dict[str, nn.Module]) -> dict[str, Moments | None]:
        stages = _observe.stages(layers, self.run, self.inputs[0])
        seen = _observe.moments(stages, layers, self.run, self.inputs, self.pool)
        return {name: stats for stage, stats in zip(stages, seen, strict=True) for name in stage.layers}


def problems(site: Site, trained: Mapping[str, nn.Module], plan: Plan, watched: Watched) -> Iterator[Problem]:
    """Layers of one method and settings together; where a block has several such lots, one after the other."""
    lots: dict[tuple[str, str], dict[str, nn.Module]] = {}
    for name, module in trained.items():
        step = plan.assignments[name].rounding
        if step is not None:
            lots.setdefault((step.use, step.settings.model_dump_json()), {})[name] = module
    places = {id(module): name for name, module in site.module.named_modules()}
    for lot in lots.values():
        assigned = [plan.assignments[name] for name in lot]
        settings = next(a.rounding.settings for a in assigned if a.rounding)
        quantized = getattr(settings, "inputs", "quantized") == "quantized"
        again = [site.again] if site.again is not None and getattr(settings, "aug_loss", False) else []

        def run(module: nn.Module, number: int, quantized: bool = quantized) -> Tensor:
            return site.forward(module, number, quantized)

        def moments(lot: dict[str, nn.Module] = lot) -> dict[str, Moments | None]:
            return watched.moments(lot)

        yield Problem(
            name=site.name,
            module=site.module,
            layers={name: places[id(module)] for name, module in lot.items()},
            formats={a.name: a.format for a in assigned if a.format},
            run=run,
            targets=[site.targets, *again],
            moments=moments,
            feeds=watched.feeds,
            pool=watched.pool,
            seed=watched.seed,
            channels=site.channels,
        )


def solve(problem: Problem, plan: Plan, notes: Mapping[str, Sequence[str]]) -> dict[str, Done]:
    """Every layer in its format, decoded weights in place; and whatever else of the block the method changed.

    Raises:
      CompressError, FormatError, NotFiniteError: of the method, with the block's name.
    """
    step = next(step for name in problem.layers if (step := plan.assignments[name].rounding))
    return_memory()
    try:
        found: Reconstruction = step.plugin.reconstruct(problem, step.settings)
    except (CompressError, FormatError, NotFiniteError) as error:
        where = problem.name or "the module"
        raise error if str(error).startswith(where) else type(error)(f"{where}: {error}") from error
    done = {}
    with torch.no_grad():
        for piece in found.pieces:
            if (solution := piece.solution()) is None:
                for name, value in piece.tensors().items():
                    problem.module.get_parameter(name).copy_(value)
        for piece in found.pieces:
            solution = piece.solution()
            if solution is None:
                continue
            layer = problem.layer(piece.name)
            given = piece.unrounded()
            weight_OI = models.matrix_of(layer) if given is None else given
            said = (*notes.get(piece.name, ()), found.note)
            result = measured(solution, solution.qtensor.decode(), weight_OI, None, said)
            models.set_matrix(layer, result.decoded)
            done[piece.name] = replace(result, decoded=None)
    return_memory()
    return done

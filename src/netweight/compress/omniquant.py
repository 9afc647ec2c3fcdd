"""OmniQuant: learn where each group's range ends and, where asked, channel scales that move the difficulty elsewhere.

Learnable weight clipping: the ends of a group's range are its min and max times sigmoid(beta) and sigmoid(gamma), from which
scale and zero follow as in round-to-nearest; the rounding passes gradients straight through. In the paper both begin at 4, which
clips 1.8 %; here, unless ``start`` says "minmax", where a search finds the least error.

Learnable equivalent transformation (``let``): channel scales between what feeds layers (a norm, or a linear layer) and those layers,
divided out of the one and multiplied into the others, so that unrounded nothing changes. Scales are trained as logarithms, which
keeps them positive; shifts are left out, and so is the pair of queries and keys, whose rotation in Llama-like models would
tie channels together. Source: Shao et al., arXiv 2308.13137.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from netweight import models
from netweight.compress import _clip, _fake, _start
from netweight.compress._plugin import Moments, Solution
from netweight.compress._problem import BlockTraining, Piece, Problem, Reconstruction
from netweight.compress._schedule import Schedule
from netweight.compress._train import Trainer
from netweight.errors import CompressError
from netweight.formats import Format, Params
from netweight.models import Feed

SUMMARY = "learn each group's clipping, and channel scales, against the original block"
STATS = "block"
FIRST = 4.0  # logit of the first factor in the paper: sigmoid(4) = 0.982


class Settings(BlockTraining):
    epochs: int = Field(20, ge=1, description="passes over the calibration batches")
    clip_lr: float = Field(1e-2, ge=0, description="Adam's rate for the logits of the range's factors")
    let: bool = Field(False, description="learn channel scales too")
    let_lr: float = Field(5e-3, ge=0, description="Adam's rate for the logarithms of channel scales")
    let_start: Literal["ones", "smooth"] = Field(
        "smooth", description="first channel scales: 1, or sqrt(max |x| / max |w|) of each channel"
    )
    start: _start.Start = Field(
        "output", description="first ranges: min/max, or those with the least weight or output error"
    )


def steps(settings: Settings, batches: int) -> int:
    """Steps in all."""
    return settings.steps_in(settings.epochs, batches)


def check(format: Format, settings: Settings) -> None:
    """Raises: FormatError: its scales cannot be learned."""
    _clip.check(format, "omniquant")


class _Layer(Piece):
    """A layer's clipping. ``columns`` and ``rows``: logarithms of the channel scales that are folded into its weight."""

    def __init__(
        self,
        problem: Problem,
        name: str,
        weight_OI: Tensor,
        ratio: Tensor | float,
        columns: Tensor | None,
        rows: Tensor | None,
    ) -> None:
        self.problem, self.name, self.weight_OI = problem, name, weight_OI
        self.format = problem.formats[name]
        self.range = _clip.Range(weight_OI, self.format)
        most = torch.tensor(FIRST).sigmoid()
        first = torch.logit(torch.minimum(torch.ones_like(self.range.low_RG) * ratio, most))
        self.trained = {"high": first.requires_grad_()}
        if self.range.both:
            self.trained["low"] = first.detach().clone().requires_grad_()
        if columns is not None:
            self.trained["columns"] = columns
        if rows is not None:
            self.trained["rows"] = rows
            self.bias = dict(problem.layer(name).named_parameters(recurse=False)).get("bias")

    def _now(self) -> tuple[Tensor, Params]:
        high = self.trained["high"].sigmoid()
        low = self.trained["low"].sigmoid() if "low" in self.trained else high
        if "columns" not in self.trained and "rows" not in self.trained:
            return self.weight_OI, self.range.params(low, high)
        weight = self.weight_OI
        if "columns" in self.trained:
            weight = weight * self.trained["columns"].exp()
        if "rows" in self.trained:
            weight = weight * (-self.trained["rows"]).exp().unsqueeze(1)
        return weight, self.range.params(low, high, _clip.ends(weight, self.format))

    def tensors(self) -> dict[str, Tensor]:
        weight, params = self._now()
        value = _fake.fake_quantize(weight, params, self.format)
        found = _start.as_parameter(self.problem, self.name, value)
        if "rows" in self.trained and self.bias is not None:
            place = self.problem.parameter(self.name).removesuffix("weight") + "bias"
            found[place] = self.bias.detach() * (-self.trained["rows"]).exp()
        return found

    @torch.no_grad()
    def unrounded(self) -> Tensor:
        """With the channel scales folded in."""
        return self._now()[0]

    @torch.no_grad()
    def solution(self) -> Solution:
        return Solution(_fake.quantized(*self._now(), self.format))


class _Source(Piece):
    """What feeds layers and is not rounded itself: its outputs are divided by the channel scales."""

    def __init__(self, problem: Problem, path: str, log_scale: Tensor) -> None:
        self.path, self.module = path, problem.module.get_submodule(path)
        self.trained = {"columns": log_scale}

    def tensors(self) -> dict[str, Tensor]:
        inverse = (-self.trained["columns"]).exp()
        found = {}
        for name, value in self.module.named_parameters(recurse=False):
            value = value.detach()
            matrix = value.dim() == 2 and models.is_row_major(self.module)
            found[f"{self.path}.{name}"] = value * (inverse.unsqueeze(1) if matrix else inverse)
        return found


def reconstruct(problem: Problem, settings: Settings) -> Reconstruction:
    """Ranges and channel scales as learned.

    Raises: CompressError: ``let`` where nothing before the layers can take scales up; no batches; a loss that is not finite.
    """
    columns, rows, sources = _channel_scales(problem, settings) if settings.let else ({}, {}, [])

    def piece(name: str, weight_OI: Tensor, stats: Moments | None) -> _Layer:
        ratio = _start.ratio(weight_OI, problem.formats[name], settings.start, stats)
        return _Layer(problem, name, weight_OI, ratio, columns.get(name), rows.get(name))

    trainer = Trainer(problem, [*_start.pieces(problem, settings.start, piece), *sources], settings)
    clip, scale = settings.clip_lr, settings.let_lr
    rates = {"low": clip, "high": clip, "columns": scale}
    trainer.phase(Schedule(steps(settings, len(trainer.train)), rates))
    return trainer.result()


def _channel_scales(problem: Problem, settings: Settings) -> tuple[dict[str, Tensor], dict[str, Tensor], list[Piece]]:
    """Logarithms of the scales of each layer's columns, of each layer's rows, and the sources that are not layers here."""
    usable = [f for f in problem.feeds if all(name in problem.layers for name in f.layers)]
    if not usable:
        raise CompressError(
            "let = true needs a norm or a layer before the layers it scales, and this model's family knows of none here; "
            "use let = false"
        )
    stats = problem.moments() if settings.let_start == "smooth" else {}
    columns: dict[str, Tensor] = {}
    rows: dict[str, Tensor] = {}
    sources: list[Piece] = []
    for feed in usable:
        log_scale = _first_scale(problem, feed, stats.get(feed.layers[0]), settings.let_start).requires_grad_()
        columns |= dict.fromkeys(feed.layers, log_scale)
        if feed.source in problem.layers:
            rows[feed.source] = log_scale
        else:
            sources.append(_Source(problem, feed.source.removeprefix(f"{problem.name}."), log_scale))
    return columns, rows, sources


def _first_scale(problem: Problem, feed: Feed, stats: Moments | None, how: str) -> Tensor:
    largest_w = (
        torch.stack([_start.matrix(problem, name).abs().amax(0) for name in feed.layers]).amax(0).clamp(min=1e-5)
    )
    if how == "ones" or stats is None:
        return torch.zeros_like(largest_w)
    return (stats.max_abs_I.float().clamp(min=1e-5) / largest_w).sqrt().clamp(min=1e-2).log()

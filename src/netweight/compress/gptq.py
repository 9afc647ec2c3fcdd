"""GPTQ: round one column at a time and let the columns not yet rounded make up for the error.

With H = (2/n) sum x x^T and U the upper Cholesky factor of H^-1, column j is rounded to q_j, e = (w_j - q_j) / U_jj, and
w_k -= e U_jk for the columns k after j. Columns are taken in order of falling H_jj ("hessian") under scales fixed beforehand
("static"), so that any order can be stored. All arithmetic is in float64. Scales come, by default, from the range of each
group with the least output error of its own, d H_gg d^T, found on a grid ("output"); the reference code takes "minmax".

A column that was never active (H_jj = 0) tells nothing: it is rounded to nearest, not set to zero as in the reference
code, because what calibration did not see may still occur. When H is not positive definite the damping is raised tenfold
and the ledger says so. Source: Frantar et al., arXiv 2210.17323, algorithm 1; its reference code for order and groups.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from netweight.compress import _ranges, mse_clip
from netweight.compress._plugin import Moments, Solution
from netweight.errors import CompressError, NotFiniteError
from netweight.formats import Format, Params, QTensor, expand, fit
from netweight.settings import Settings as Base

SUMMARY = "second-order rounding, one layer at a time"
STATS = "moments"
SEARCH = mse_clip.Settings(lowest=0.4, tries=13)


class Settings(Base):
    damping: float = Field(0.01, gt=0, lt=1, description="fraction of the mean Hessian diagonal added to the diagonal")
    order: Literal["hessian", "natural"] = Field(
        "hessian", description="columns by falling Hessian diagonal, or as stored"
    )
    groups: Literal["static", "dynamic"] = Field(
        "static", description="scales from the original weights, or from the updated ones when a group is reached"
    )
    range: Literal["minmax", "mse", "output"] = Field(
        "output", description="scales from min/max, or from the range with the least weight or output error"
    )
    columns: int = Field(128, ge=1, description="columns per lazy update; speed only")

    @model_validator(mode="after")
    def _dynamic_groups_need_natural_order(self) -> Settings:
        if self.groups == "dynamic" and self.order == "hessian":
            raise ValueError('groups = "dynamic" needs order = "natural": a group must be met whole')
        return self


def roundings(settings: Settings) -> int:
    """How often a weight is rounded, for an estimate of the time."""
    return 1 if settings.range == "minmax" else 1 + mse_clip.roundings(SEARCH)


@torch.no_grad()
def solve(weight_OI: Tensor, stats: Moments, format: Format, settings: Settings) -> Solution:
    """Codes that keep the layer's output on the calibration inputs.

    Raises:
      CompressError: the Hessian is not positive definite even with a damping of 1, or the format has no dynamic groups.
    """
    if settings.groups == "dynamic" and (
        format.tensor_scale or format.two_level or format.rows > 1 or format.group < 0
    ):
        raise CompressError(f'{format.name}: scales span more than one group of a row; use groups = "static"')
    weight_OI = weight_OI.double()
    params, pieces, notes = [], [], []
    whole = None
    if settings.groups == "static":
        together = stats.hessian_II if stats.hessian_II.dim() == 2 else stats.hessian_II.mean(0)
        whole = _params(weight_OI.float(), together, format, settings)
    for rows, hessian in stats.parts(weight_OI.shape[0]):
        solver = _Columns(weight_OI[rows], format, settings)
        factor, order, found = _factor(hessian, settings)
        notes += [note for note in found if note not in notes]
        if whole is not None:
            scale, zero = expand(whole, format, (weight_OI.shape[0], weight_OI.shape[1]))
            zeros = None if zero is None else _rows(zero, rows)
            pieces.append(solver.run_static(factor, order, _rows(scale, rows), zeros, whole.tensor_scale))
        else:
            codes, fitted = solver.run_dynamic(factor, hessian)
            pieces.append(codes)
            params.append(fitted)
    return Solution(QTensor(torch.cat(pieces), whole or _stack(params), format), tuple(notes))


def _rows(value: Tensor, rows: slice) -> Tensor:
    """These rows of a per-element parameter, in float64; one that serves the whole tensor stays as it is."""
    return value.double() if value.shape[0] == 1 else value[rows].double()


def _stack(params: list[Params]) -> Params:
    zeros = [p.zero_RG for p in params if p.zero_RG is not None]
    return Params(torch.cat([p.scale_RG for p in params]), torch.cat(zeros) if zeros else None)


def _params(weight_OI: Tensor, hessian_II: Tensor, format: Format, settings: Settings) -> Params:
    """Scales of a matrix by the range the settings ask for."""
    if settings.range == "minmax":
        return fit(weight_OI, format)
    error = _ranges.squared_error(format)
    if settings.range == "output":
        error = _ranges.block_output_error(format, hessian_II)
    return _ranges.search(weight_OI, format, mse_clip.ratios(SEARCH, format), error)


def _factor(hessian_II: Tensor, settings: Settings) -> tuple[Tensor, Tensor, list[str]]:
    """Upper Cholesky factor of the inverse of the damped, reordered Hessian; the order; notes."""
    diagonal = hessian_II.diagonal().double()
    if not bool(torch.isfinite(hessian_II.sum())) and not bool(torch.isfinite(hessian_II).all()):
        raise NotFiniteError("the Hessian holds NaN or Inf: the layer's calibration inputs are not finite")
    dead = diagonal == 0
    diagonal = torch.where(dead, torch.ones_like(diagonal), diagonal)
    order = torch.arange(len(diagonal))
    if settings.order == "hessian":
        order = torch.argsort(diagonal, descending=True, stable=True)
    diagonal = diagonal[order]
    hessian = hessian_II[order.unsqueeze(1), order].double()  # the one copy: matrices of this size fill the memory
    notes = [f"{int(dead.sum())} of {len(dead)} input columns never active: rounded to nearest"] if dead.any() else []
    damping = settings.damping
    mean = diagonal.mean()
    while True:
        hessian.diagonal().copy_(diagonal + damping * mean)
        if (factor := _inverse_factor(hessian)) is not None:
            break
        if damping >= 1:
            raise CompressError(
                "the Hessian is not positive definite even with its mean diagonal added to the diagonal"
            )
        damping = min(1.0, damping * 10)
    if damping != settings.damping:
        notes.append(f"Hessian not positive definite: damping raised from {settings.damping:g} to {damping:g}")
    return factor, order, notes


def _inverse_factor(damped_II: Tensor) -> Tensor | None:
    """Upper U with U^T U = damped^-1, or None when it is not positive definite in float64."""
    lower, failed = torch.linalg.cholesky_ex(damped_II)
    if int(failed):
        return None
    inverse = torch.cholesky_inverse(lower)
    del lower
    upper, failed = torch.linalg.cholesky_ex(inverse, upper=True)
    return upper if not int(failed) and bool(torch.isfinite(upper).all()) else None


class _Columns:
    """The column loop over a weight kept as (I, O), so that a column is contiguous."""

    def __init__(self, weight_OI: Tensor, format: Format, settings: Settings) -> None:
        self.weight_OI, self.format, self.step = weight_OI, format, settings.columns
        self.settings = settings

    def run_static(
        self, factor_II: Tensor, order_I: Tensor, scale: Tensor, zero: Tensor | None, tensor_scale: Tensor | None
    ) -> Tensor:
        """(O, I) uint8 codes under scales that are known beforehand."""
        scale_IO = _columns(scale, self.weight_OI.shape)[order_I]
        zero_IO = None if zero is None else _columns(zero, self.weight_OI.shape)[order_I]
        top = None if tensor_scale is None else tensor_scale.double()
        work = self.weight_OI.T[order_I].contiguous()

        def column(j: int, values: Tensor) -> tuple[Tensor, Tensor]:
            z = None if zero_IO is None else zero_IO[j]
            codes = self.format.arithmetic.to_codes(values, scale_IO[j], z, top, self.format)
            return codes, self.format.arithmetic.from_codes(codes, scale_IO[j], z, top, self.format)

        codes_IO = self._sweep(work, factor_II, column)
        unordered = torch.empty_like(codes_IO)
        unordered[order_I] = codes_IO
        return unordered.T.contiguous()

    def run_dynamic(self, factor_II: Tensor, hessian_II: Tensor) -> tuple[Tensor, Params]:
        """Codes and scales, each group's scales fitted to the updated weights when its first column is reached."""
        work = self.weight_OI.T.contiguous()
        width = self.format.group or len(work)
        fitted: list[Params] = []
        expanded: list[tuple[Tensor, Tensor | None]] = []

        def column(j: int, values: Tensor) -> tuple[Tensor, Tensor]:
            if j % width == 0:
                group = work[j : j + width].T.float()
                fitted.append(self._group_params(group, hessian_II[j : j + width, j : j + width]))
                expanded.append((fitted[-1].scale_RG[:, 0].double(), _first_column(fitted[-1].zero_RG)))
            scale, zero = expanded[-1]
            codes = self.format.arithmetic.to_codes(values, scale, zero, None, self.format)
            return codes, self.format.arithmetic.from_codes(codes, scale, zero, None, self.format)

        codes_IO = self._sweep(work, factor_II, column, width)
        zeros = [p.zero_RG for p in fitted if p.zero_RG is not None]
        params = Params(torch.cat([p.scale_RG for p in fitted], 1), torch.cat(zeros, 1) if zeros else None)
        return codes_IO.T.contiguous(), params

    def _group_params(self, group_OK: Tensor, hessian_KK: Tensor) -> Params:
        row = _one_group(self.format, group_OK.shape[1])
        return _params(group_OK, hessian_KK, row, self.settings)

    def _sweep(self, work_IO: Tensor, factor_II: Tensor, column, width: int = 0) -> Tensor:
        """Round column after column; updates within a strip at once, beyond it lazily.

        ``width``: strips end at group ends, so that a group met whole has all its updates.
        """
        inputs = len(work_IO)
        codes_IO = torch.empty(work_IO.shape, dtype=torch.uint8)
        start = 0
        while start < inputs:
            end = min(start + self.step, inputs)
            if width:
                end = min(end, (start // width + 1) * width)
            errors = torch.empty(end - start, work_IO.shape[1], dtype=torch.float64)
            for j in range(start, end):
                codes_IO[j], value = column(j, work_IO[j])
                error = (work_IO[j] - value) / factor_II[j, j]
                errors[j - start] = error
                if j + 1 < end:
                    work_IO[j + 1 : end].addr_(factor_II[j, j + 1 : end], error, alpha=-1)
            if end < inputs:
                work_IO[end:].addmm_(factor_II[start:end, end:].T, errors, alpha=-1)
            start = end
        return codes_IO


def _first_column(zero: Tensor | None) -> Tensor | None:
    return None if zero is None else zero[:, 0].double()


def _columns(value: Tensor, shape: torch.Size) -> Tensor:
    """(I, O) contiguous from something that broadcasts to (O, I)."""
    return value.double().expand(shape).T.contiguous()


def _one_group(format: Format, width: int) -> Format:
    """The same format for a matrix that is a single group wide."""
    return Format(**{**format.__dict__, "group": 0, "ragged": False}) if format.group != width else format

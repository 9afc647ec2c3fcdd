"""HQQ: choose the zero point so that few weights err much, without data.

Alternates W_e = shrink(W - W_r), the proximal step of the l_p norm with p < 1, and z = mean over the group of
q - (W - W_e) / s; the scale stays. Works best with a float zero (``-fz`` formats); a packed zero is rounded in every round.
Source: Badri and Shaji, "Half-Quadratic Quantization of Large Machine Learning Models" (2023), equations 5 to 9.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from netweight.compress._plugin import Moments, Solution
from netweight.errors import CompressError
from netweight.formats import Format, Params, blocks, encode, fit
from netweight.settings import Settings as Base

SUMMARY = "half-quadratic choice of the zero point; needs no data"
STATS = "none"


class Settings(Base):
    norm: float = Field(0.7, gt=0, lt=1, description="p of the l_p norm of the weight error")
    beta: float = Field(10.0, gt=0, description="first penalty weight")
    growth: float = Field(1.01, ge=1, description="factor on the penalty after each round")
    rounds: int = Field(20, ge=1, le=10000, description="most rounds; stops when the mean error no longer falls")


def roundings(settings: Settings) -> int:
    """How often a weight is rounded at most, for an estimate of the time."""
    return settings.rounds + 2


@torch.no_grad()
def solve(weight_OI: Tensor, stats: Moments | None, format: Format, settings: Settings) -> Solution:
    """Codes under the zero point with the least mean absolute error met.

    Raises:
      CompressError: the format has no zero point.
    """
    if format.zero == "none":
        raise CompressError(f"hqq moves the zero point, and {format.name} has none; use an asymmetric integer format")
    weight_OI = weight_OI.float()
    params = first = fit(weight_OI, format)
    best, best_error, beta = params, torch.inf, settings.beta
    for _ in range(settings.rounds + 1):
        q = encode(weight_OI, params, format)
        rounded = q.decode()
        error = float((weight_OI - rounded).abs().mean())
        if error >= best_error:
            break
        best, best_error = params, error
        sparse = _shrink(weight_OI - rounded, beta, settings.norm)
        params = Params(params.scale_RG, _zero(q.codes_OI, weight_OI - sparse, params, format))
        beta *= settings.growth
    return Solution(encode(weight_OI, best, format), _notes(first, best, format))


def _notes(first: Params, best: Params, format: Format) -> tuple[str, ...]:
    """Said when nothing came of it: of whole zeros few can move, at two bits next to none."""
    if first.zero_RG is None or best.zero_RG is None or not torch.equal(first.zero_RG, best.zero_RG):
        return ()
    way_out = f"; {format.name}-fz has zeros in float16, which can" if format.zero == "packed" else ""
    return (f"no zero moved, so this is round-to-nearest{way_out}",)


def _shrink(error_OI: Tensor, beta: float, norm: float) -> Tensor:
    """Generalised soft threshold: sign(x) max(|x| - |x|^(p-1) / beta, 0)."""
    magnitude = error_OI.abs()
    return error_OI.sign() * (magnitude - magnitude.pow(norm - 1) / beta).clamp(min=0)


def _zero(codes_OI: Tensor, target_OI: Tensor, params: Params, format: Format) -> Tensor:
    """Mean over each block of q - target / s, in the zero's stored type; a block of scale 0 keeps its zero."""
    scale = params.scale_RG.unsqueeze(-1)
    units = blocks(codes_OI.float(), format) - blocks(target_OI, format) / scale
    zero = units.nanmean(-1)
    if format.zero == "packed":
        zero = torch.round(zero).clamp(0, 2**format.bits - 1)
    else:
        zero = zero.to(torch.float16).float()
    return torch.where(params.scale_RG > 0, zero, params.zero_RG if params.zero_RG is not None else zero)

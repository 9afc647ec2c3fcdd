"""Search for the range of each block: shrink (or widen) min/max by a ratio and keep what errs least."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from netweight.formats import Format, Params, blocks, encode, fit

BlockError = Callable[[Tensor], Tensor]  # weight change (O, I) -> error of each block (R, G)


def search(weight_OI: Tensor, format: Format, ratios: Sequence[float], error: BlockError) -> Params:
    """Params of the ratio with the least error, block by block; see ``best_ratio``."""
    return fit(weight_OI, format, ratio=best_ratio(weight_OI, format, ratios, error))


def best_ratio(weight_OI: Tensor, format: Format, ratios: Sequence[float], error: BlockError) -> Tensor:
    """(R, G): the ratio with the least error, block by block; the first of equals wins.

    Args:
      ratios: candidates, the first being what wins ties.
      error: how a weight change is judged per block.
    """
    least: Tensor | None = None
    best: Tensor | None = None
    for ratio in ratios:
        change = encode(weight_OI, fit(weight_OI, format, ratio=ratio), format).decode() - weight_OI
        found = error(change)
        if least is None or best is None:
            least, best = found, torch.full(found.shape, ratio, dtype=torch.float32)
            continue
        better = found < least
        least = torch.where(better, found, least)
        best = torch.where(better, ratio, best)
    if best is None:
        raise ValueError("no ratio to try")
    return best


def squared_error(format: Format) -> BlockError:
    """Sum of squared weight changes in each block."""

    def error(change_OI: Tensor) -> Tensor:
        return blocks(change_OI, format).nan_to_num(nan=0.0).square().sum(-1)

    return error


def block_output_error(format: Format, hessian_II: Tensor) -> BlockError:
    """Each group's own share of the output error, d_g H_gg d_g^T, for groups within a row.

    Blocks that span rows are judged by the sum over their rows. Cross terms between groups are left out.
    """
    width = hessian_II.shape[0] if format.group <= 0 else format.group

    def error(change_OI: Tensor) -> Tensor:
        outputs, inputs = change_OI.shape
        columns = []
        for start in range(0, inputs, width):
            part = change_OI[:, start : start + width].to(hessian_II.dtype)
            block = hessian_II[start : start + width, start : start + width]
            columns.append(((part @ block) * part).sum(-1))
        by_row_OG = torch.stack(columns, 1)
        rows, _ = format.grid((outputs, inputs))
        if rows == outputs:
            return by_row_OG
        height = format.rows if rows > 1 else outputs
        short = rows * height - outputs
        padded = torch.nn.functional.pad(by_row_OG, (0, 0, 0, short))
        return padded.reshape(rows, height, -1).sum(1)

    return error

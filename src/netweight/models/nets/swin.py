"""A flat Swin transformer: attention inside windows, every second block's windows shifted by half; patches never merge.

Source: Liu et al., arXiv 2103.14030, sections 3.1 and 3.2; sizes and decoder: Du & Rybakov, arXiv 2605.27616, the authors'
code. Where the grid is no larger than a window there is one window, as large as the grid, and nothing to shift, as in Swin's own code.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from netweight.models.nets._attention import Attention
from netweight.models.nets._initial import TABLE_STD
from netweight.models.nets._net import Net
from netweight.models.nets._transformer import DROPOUT, PATCH, PATCHES, UNQUANTIZED, Size, Transformer

__all__ = ["PATCHES", "SIZES", "SUMMARY", "UNQUANTIZED", "make"]

SUMMARY = "transformer with attention in shifted windows, flat"
SIZES = {
    "500k": Size(dim=64, depth=10, heads=4, mlp=3, window=4),
    "4m": Size(dim=192, depth=9, heads=6, mlp=3, window=8),
    "15m": Size(dim=448, depth=8, heads=14, mlp=2, window=16),
}
MASKED = -100.0  # added to the score of tokens that a shift brought side by side from opposite borders


def make(size: str, image: int, channels: int, patch: int = PATCH, dropout: float = DROPOUT) -> Net:
    row = SIZES[size]

    def attention(grid: int) -> Sequence[Attention]:
        window = min(row.window, grid)
        shifts = [0 if block % 2 == 0 or window == grid else window // 2 for block in range(row.depth)]
        return [WindowAttention(row.dim, row.heads, grid, window, shift) for shift in shifts]

    several = image > row.window * patch
    multiple = row.window * patch if several else patch
    return Transformer(
        row, image, channels, attention=attention, leading=0, patch=patch, multiple=multiple, dropout=dropout
    )


class WindowAttention(Attention):
    """Attention among the tokens of each window of a grid: (B, T, D) in and out, tokens row by row."""

    index: Tensor
    mask: Tensor | None

    def __init__(self, dim: int, heads: int, grid: int, window: int, shift: int) -> None:
        """
        Args:
          grid, window: tokens along a side. shift: tokens by which the windows lie down and to the right of the grid's corner.
        """
        super().__init__(dim, heads)
        self.grid, self.window, self.shift = grid, window, shift
        self.relative = nn.Parameter(torch.empty((2 * window - 1) ** 2, heads))
        nn.init.trunc_normal_(self.relative, std=TABLE_STD)
        self.register_buffer("index", _relative_index(window), persistent=False)
        mask = _shift_mask(grid, window, shift) if shift else None
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self._joined(self.attend(self._windows(x), self.bias()))

    def probabilities(self, x: Tensor) -> Tensor:
        """(B, windows, heads, T, T) with the T tokens of a window."""
        query, key, _ = self._heads(self._windows(x))
        return self._softmax(query, key, self.bias())

    def bias(self) -> Tensor:
        """What is added to the scores, (windows or 1, heads, T, T)."""
        relative = F.embedding(self.index, self.relative).permute(2, 0, 1)
        return relative[None] if self.mask is None else relative[None] + self.mask[:, None]

    def _windows(self, x_BTD: Tensor) -> Tensor:
        """(B, windows, T of a window, D)."""
        side = self.grid // self.window
        x = x_BTD.unflatten(1, (self.grid, self.grid))
        if self.shift:
            x = x.roll((-self.shift, -self.shift), (1, 2))
        x = x.unflatten(2, (side, self.window)).unflatten(1, (side, self.window))  # B, rows, window, columns, window, D
        return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)

    def _joined(self, x_BWTD: Tensor) -> Tensor:
        """Back to (B, T, D)."""
        side = self.grid // self.window
        x = x_BWTD.unflatten(1, (side, side)).unflatten(3, (self.window, self.window))
        x = x.transpose(2, 3).flatten(3, 4).flatten(1, 2)
        if self.shift:
            x = x.roll((self.shift, self.shift), (1, 2))
        return x.flatten(1, 2)


def _relative_index(window: int) -> Tensor:
    """(T, T): which row of the table belongs to a token (row) and another (column), by how far apart they are."""
    row, column = torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")
    place = torch.stack([row.flatten(), column.flatten()])  # (2, T)
    apart = place[:, :, None] - place[:, None, :] + window - 1
    return apart[0] * (2 * window - 1) + apart[1]


def _shift_mask(grid: int, window: int, shift: int) -> Tensor:
    """(windows, T, T): 0 where both tokens come from one side of the seam that the shift made, ``MASKED`` elsewhere."""
    band = torch.zeros(grid, dtype=torch.long)  # only the last window of a row or column holds tokens from both ends
    band[-shift:] = 1
    side = grid // window
    region = (2 * band[:, None] + band[None, :]).view(side, window, side, window)
    region = region.transpose(1, 2).reshape(side**2, window**2)
    return torch.where(region[:, :, None] == region[:, None, :], 0.0, MASKED)

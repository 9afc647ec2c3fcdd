"""What ViT and Swin share: patches, pre-norm blocks, and the decoder that turns a grid of tokens into an image.

Source: Du & Rybakov, arXiv 2605.27616, the authors' code; blocks as in Dosovitskiy et al., arXiv 2010.11929; stochastic depth:
Huang et al., arXiv 1603.09382. Dropout follows positions, the attention's output layer, and both layers of the MLP.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log2

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from netweight.models.nets._attention import Attention
from netweight.models.nets._dropout import Dropout
from netweight.models.nets._initial import TABLE_STD, initialise
from netweight.models.nets._net import Net

PATCH = 16  # pixels along a side, of the study
PATCHES = (4, 8, PATCH)
DROPOUT = 0.1  # also the chance that a sample skips the last block; 0 at the first, and linear between
UNQUANTIZED = ("patches.*", "decoder.*")


@dataclass(frozen=True)
class Size:
    dim: int
    depth: int
    heads: int
    mlp: int  # the MLP's hidden width over dim
    window: int = 0  # tokens along a side; Swin's


class Patches(nn.Module):
    """Images (B, C, S, S) to normalised tokens (B, T, D), one for each patch."""

    def __init__(self, channels: int, dim: int, patch: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(channels, dim, patch, stride=patch), nn.LayerNorm(dim)

    def forward(self, images: Tensor) -> Tensor:
        return self.norm(self.conv(images).flatten(2).mT)


class Block(nn.Module):
    """Attention, then an MLP, each on a norm's output and added to the stream."""

    def __init__(self, attention: nn.Module, dim: int, hidden: int, dropout: float, drop: float) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(dim), attention
        self.norm2, self.fc1, self.fc2 = nn.LayerNorm(dim), nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        self.dropout, self.drop = Dropout(dropout), drop

    def forward(self, x: Tensor) -> Tensor:
        x = x + self._kept(self.dropout(self.attention(self.norm1(x))))
        hidden = self.dropout(F.gelu(self.fc1(self.norm2(x))))
        return x + self._kept(self.dropout(self.fc2(hidden)))

    def _kept(self, branch_BTD: Tensor) -> Tensor:
        """In training each sample's branch is left out with the chance ``drop``, and made larger where it is not."""
        if not self.training or self.drop == 0:
            return branch_BTD
        chosen = branch_BTD.new_empty(len(branch_BTD), 1, 1).bernoulli_(1 - self.drop)
        return branch_BTD * (chosen / (1 - self.drop))


class Decoder(nn.Module):
    """Tokens (B, T, D) of a grid, row by row, to one logit per pixel: twice the side and half the channels until a token is its patch."""

    def __init__(self, dim: int, grid: int, patch: int) -> None:
        super().__init__()
        self.grid = grid
        widths = [dim, *(max(8, dim // 2**level) for level in range(1, round(log2(patch)) + 1))]
        stages = (self._up(inputs, outputs) for inputs, outputs in pairwise(widths))
        self.up = nn.Sequential(*stages)
        self.last = nn.Conv2d(widths[-1], 1, 1)

    @staticmethod
    def _up(inputs: int, outputs: int) -> nn.Module:
        groups = max(g for g in range(1, 9) if outputs % g == 0)
        return nn.Sequential(nn.ConvTranspose2d(inputs, outputs, 2, stride=2), nn.GroupNorm(groups, outputs), nn.GELU())

    def forward(self, tokens: Tensor) -> Tensor:
        return self.last(self.up(tokens.mT.unflatten(-1, (self.grid, self.grid))))


class Transformer(Net):
    """Patches, learned positions, blocks, a norm, the decoder; ``leading`` tokens come before the patches and are dropped."""

    def __init__(
        self,
        size: Size,
        image: int,
        channels: int,
        *,
        attention: Callable[[int], Sequence[Attention]],
        leading: int,
        patch: int,
        multiple: int,
        dropout: float,
    ) -> None:
        """
        Args:
          attention: gives each block's, from the tokens along a side of the grid. patch: pixels along a side, one of ``PATCHES``.
          multiple: of which the image's side must be. dropout: chance in [0, 1) of values, and of the last block.
        """
        super().__init__(image, channels, multiple=multiple)
        grid, dim = image // patch, size.dim
        self.patches = Patches(channels, dim, patch)
        self.leading = nn.Parameter(torch.empty(1, leading, dim)) if leading else None
        self.positions = nn.Parameter(torch.empty(1, leading + grid**2, dim))
        self.dropout = Dropout(dropout)
        drops = torch.linspace(0, dropout, size.depth).tolist()
        pairs = zip(attention(grid), drops, strict=True)
        self.blocks = nn.ModuleList(Block(each, dim, size.mlp * dim, dropout, drop) for each, drop in pairs)
        self.norm, self.decoder = nn.LayerNorm(dim), Decoder(dim, grid, patch)
        initialise(self)
        for table in (self.leading, self.positions):
            if table is not None:
                nn.init.trunc_normal_(table, std=TABLE_STD)

    def logits(self, images: Tensor) -> Tensor:
        x = self.patches(images)
        if self.leading is not None:
            x = torch.cat([self.leading.expand(len(x), -1, -1), x], 1)
        x = self.dropout(x + self.positions)
        for block in self.blocks:
            x = block(x)
        count = 0 if self.leading is None else self.leading.shape[1]
        return self.decoder(self.norm(x)[:, count:])

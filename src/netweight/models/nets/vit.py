"""A plain vision transformer: every patch attends to every other and to a class token, which the decoder does not see.

Source: Dosovitskiy et al., arXiv 2010.11929; sizes and decoder: Du & Rybakov, arXiv 2605.27616, the authors' code.
"""

from __future__ import annotations

from netweight.models.nets._attention import Attention
from netweight.models.nets._net import Net
from netweight.models.nets._transformer import DROPOUT, PATCH, PATCHES, UNQUANTIZED, Size, Transformer

__all__ = ["PATCHES", "SIZES", "SUMMARY", "UNQUANTIZED", "make"]

SUMMARY = "vision transformer with global attention"
SIZES = {
    "500k": Size(dim=64, depth=10, heads=2, mlp=3),
    "4m": Size(dim=192, depth=9, heads=6, mlp=3),
    "15m": Size(dim=448, depth=8, heads=14, mlp=2),
}


def make(size: str, image: int, channels: int, patch: int = PATCH, dropout: float = DROPOUT) -> Net:
    row = SIZES[size]

    def attention(_: int) -> list[Attention]:
        return [Attention(row.dim, row.heads) for _ in range(row.depth)]

    return Transformer(
        row, image, channels, attention=attention, leading=1, patch=patch, multiple=patch, dropout=dropout
    )

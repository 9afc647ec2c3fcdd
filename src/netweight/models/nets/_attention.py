"""Self-attention of ViT and Swin with explicit qkv and output layers and explicit products, and a look at its probabilities.

Source: Vaswani et al., arXiv 1706.03762, section 3.2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from netweight.errors import ModelError
from netweight.models._forward import evaluating


class MatMul(nn.Module):
    """A product of two tensors that both depend on the input, as a module, so that training can round it: (..., M, K) @ (..., K, N)."""

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return left @ right


class Attention(nn.Module):
    """Every token looks at every other of its sequence: (..., T, D) in and out."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (dim // heads) ** -0.5
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.scores, self.mix = MatMul(), MatMul()

    def forward(self, x: Tensor) -> Tensor:
        return self.attend(x, None)

    def probabilities(self, x: Tensor) -> Tensor:
        """(..., heads, T, T): how much each token (a row) takes from each; rows sum to 1."""
        query, key, _ = self._heads(x)
        return self._softmax(query, key, None)

    def attend(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """``bias`` (..., heads, T, T) is added to the scores."""
        query, key, value = self._heads(x)
        mixed = self.mix(self._softmax(query, key, bias), value)
        return self.proj(mixed.transpose(-3, -2).flatten(-2))

    def _heads(self, x: Tensor) -> tuple[Tensor, ...]:
        """Queries, keys and values, each (..., heads, T, D / heads)."""
        return self.qkv(x).unflatten(-1, (3, self.heads, -1)).movedim(-3, 0).transpose(-3, -2).unbind(0)

    def _softmax(self, query: Tensor, key: Tensor, bias: Tensor | None) -> Tensor:
        scores = self.scores(query * self.scale, key.mT)
        return (scores if bias is None else scores + bias).softmax(-1)


@torch.no_grad()
def attention(net: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Attention's probabilities at every block of a ViT or Swin, by the layer's dotted name, in evaluation mode.

    Returns: (..., heads, T, T), rows sum to 1; a Swin's begin with (B, windows).
    Raises: ModelError: the net has no such layer.
    """
    layers = {name: module for name, module in net.named_modules() if isinstance(module, Attention)}
    if not layers:
        raise ModelError(f"a {type(net).__name__} has no attention layers of models.nets; ViT and Swin have")
    found: dict[str, Tensor] = {}
    handles = [module.register_forward_pre_hook(_keep(found, name)) for name, module in layers.items()]
    try:
        with evaluating(net):
            net(images)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _keep(found: dict[str, Tensor], name: str) -> Callable[..., None]:
    def hook(module: Any, inputs: tuple[Tensor]) -> None:
        found[name] = module.probabilities(*inputs)

    return hook


def distinct(probabilities: Tensor, *, dtype: torch.dtype = torch.bfloat16) -> float:
    """How many different values a row of attention holds, the mean over all rows; 1 where attention has collapsed.

    Args:
      probabilities: (..., T). dtype: values are rounded to it first, so that what differs by less counts as one.
    """
    rows, _ = probabilities.to(dtype).float().sort(-1)
    return float((rows.diff(dim=-1) != 0).sum(-1).float().mean()) + 1

"""Modules that keep their weight packed: what ``load`` puts in the place of linear, embedding and convolution layers.

Inputs that are rounded in blocks of channels stay floats here, and the kernels then take floats.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from netweight import formats, models
from netweight.formats import Activations
from netweight.runtime.kernels import PackedMatrix, conv2d, linear


class Packed(nn.Module):
    """A layer whose weight is a ``PackedMatrix``. Its tensors are buffers that ``state_dict`` does not list."""

    data: Tensor
    row_scale: Tensor
    row_zero: Tensor | None

    def __init__(self, matrix: PackedMatrix, *, exact: bool) -> None:
        super().__init__()
        self.exact = exact
        self._hold(matrix)

    def _hold(self, matrix: PackedMatrix) -> None:
        self.matrix = matrix
        for name in ("data", "row_scale", "row_zero"):
            self.register_buffer(name, getattr(matrix, name), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Packed:
        """``module.to(...)`` and its like move the packed tensors, but leave them the types that the kernels read."""
        self._hold(self.matrix.to(fn(self.data[:0]).device))
        if (bias := self._parameters.get("bias")) is not None:
            self._parameters["bias"] = nn.Parameter(fn(bias.detach()), requires_grad=bias.requires_grad)
        return self

    def extra_repr(self) -> str:
        return f"{self.matrix.spec.outputs} x {self.matrix.spec.inputs}, {self.matrix.format}"


class PackedLinear(Packed):
    """y = x W^T + bias for x (..., I); also stands for transformers' ``Conv1D``."""

    def __init__(
        self, matrix: PackedMatrix, bias: nn.Parameter | None, *, exact: bool = False, blocks: Activations | None = None
    ) -> None:
        super().__init__(matrix, exact=exact or blocks is not None)
        self.bias, self.blocks = bias, blocks
        self.out_features, self.in_features = matrix.shape

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.blocks is None else self.blocks.round(x)
        return linear(x, self.data, self.row_scale, self.row_zero, self.bias, self.matrix.spec.numbers, self.exact)


class PackedEmbedding(Packed):
    """Rows of the matrix, decoded as they are looked up."""

    def __init__(self, matrix: PackedMatrix, dtype: torch.dtype) -> None:
        super().__init__(matrix, exact=True)
        self.dtype = dtype
        self.num_embeddings, self.embedding_dim = matrix.shape

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Packed:
        self.dtype = fn(torch.empty(0, dtype=self.dtype)).dtype
        return super()._apply(fn, recurse)

    def forward(self, index: Tensor) -> Tensor:
        rows = self.matrix.rows(index.reshape(-1))
        return rows.reshape(*index.shape, self.embedding_dim).to(self.dtype)


class PackedConv2d(Packed):
    """2-D convolution with zero padding and one group of channels."""

    def __init__(
        self, matrix: PackedMatrix, like: nn.Conv2d, *, exact: bool = False, blocks: Activations | None = None
    ) -> None:
        super().__init__(matrix, exact=exact or blocks is not None)
        self.bias, self.blocks = like.bias, blocks
        self.kernel, self.stride = list(like.kernel_size), list(like.stride)
        self.padding, self.dilation = list(_padding(like)), list(like.dilation)

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() == 3:  # one image without a batch
            return self(x[None])[0]
        x = x if self.blocks is None else self.blocks.round(x, -3)
        spec = self.matrix.spec.numbers
        parts = (self.kernel, self.stride, self.padding, self.dilation)
        return conv2d(x, self.data, self.row_scale, self.row_zero, self.bias, spec, *parts, self.exact)


def replacement(layer: nn.Module, matrix: PackedMatrix, *, exact: bool) -> nn.Module | None:
    """The packed module that does what this layer does with this weight; None where there is none."""
    if isinstance(layer, nn.Embedding):
        if layer.max_norm is not None:
            return None
        return PackedEmbedding(matrix, layer.weight.dtype)
    if isinstance(layer, NonDynamicallyQuantizableLinear):
        return None  # attention of torch's own reads its weight, and never runs it
    name = models.rounded_inputs(layer)
    read = formats.activations(name) if name else None
    blocks = None if read is None or read.levels else read  # whole numbers are the kernels' own matter
    if isinstance(layer, nn.Linear) or type(layer).__name__ == "Conv1D":
        return PackedLinear(matrix.reading(name), layer.bias, exact=exact, blocks=blocks)  # pyright: ignore[reportArgumentType]
    if isinstance(layer, nn.Conv2d) and layer.groups == 1 and layer.padding_mode == "zeros" and layer.padding != "same":
        return PackedConv2d(matrix, layer, exact=exact, blocks=blocks)
    return None


def _padding(layer: nn.Conv2d) -> tuple[int, int]:
    return (0, 0) if isinstance(layer.padding, str) else (layer.padding[0], layer.padding[1])

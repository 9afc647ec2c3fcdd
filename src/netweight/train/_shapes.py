"""Where the blocks of each operand lie, and the three products themselves, for linear layers, (transposed) convolutions and products of two inputs.

Blocks always lie along the axis that the product sums over. Forward: x and W along the input channels (for a convolution at each
tap, so that x is rounded once and not once per tap). Gradient of the input: G and W along the output channels. Gradient of the
weight: a linear layer's tokens, or a convolution's positions, flattened within each sample: there G and x meet shifted by the tap,
so their blocks are each one's own. 16 x 16: (outputs, inputs) at each tap.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from netweight import formats
from netweight.train._qat import Operand

Seen = Callable[[Tensor, str, dict[str, Any]], None]


@dataclass(frozen=True)
class Rounder:
    """Rounds one operand of one product. ``seen`` is told the arguments of each call of ``formats.round_blocks``.

    ``kept``: a weight, whose scales a file will hold.
    """

    operand: Operand
    seed: int = 0
    seen: Seen | None = None
    kept: bool = False

    @property
    def idle(self) -> bool:
        return self.operand.format is None

    @property
    def square(self) -> bool:
        return not self.idle and formats.get(str(self.operand.format)).rows > 1

    @property
    def whole_channel(self) -> bool:
        return formats.get(str(self.operand.format)).group == 0

    def __call__(self, x: Tensor, axis: int | tuple[int, int], samples: int = 1) -> Tensor:
        operand = self.operand
        if operand.format is None or x.numel() == 0:
            return x
        signs = formats.TRANSFORMER_ENGINE_SIGNS if operand.hadamard else None
        how: dict[str, Any] = {
            "axis": axis,
            "rounding": operand.rounding,
            "seed": self.seed,
            "signs": signs,
            "rule": operand.rule,
            "scales": "stored" if self.kept else "float32",
            "samples": samples,
        }
        if self.seen is not None:
            self.seen(x, operand.format, how)
        out = formats.round_blocks(x, operand.format, **how)
        return out if out.dtype == x.dtype else out.to(x.dtype)


@dataclass(frozen=True)
class LinearShape:
    """(…, inputs) to (…, outputs); the weight is (outputs, inputs)."""

    def channels(self, x: Tensor, rounder: Rounder, samples: int) -> Tensor:
        """x or G in blocks along its channels."""
        return rounder(x, -1, samples)

    def positions(self, x: Tensor, rounder: Rounder) -> Tensor:
        """x or G in blocks along tokens."""
        if rounder.idle:
            return x
        return rounder(x.reshape(-1, x.shape[-1]), 0).reshape(x.shape)

    def weight(self, w: Tensor, rounder: Rounder, *, along_inputs: bool) -> Tensor:
        """The weight in blocks along its inputs or along its outputs."""
        if rounder.idle:
            return w
        return rounder(w, (0, 1) if rounder.square else int(along_inputs))

    def run(self, x: Tensor, w: Tensor, bias: Tensor | None) -> Tensor:
        return functional.linear(x, w, bias)

    def input_gradient(self, g: Tensor, x: Tensor, w: Tensor) -> Tensor:
        return g @ w

    def weight_gradient(self, g: Tensor, x: Tensor, w: Tensor) -> Tensor:
        return g.reshape(-1, g.shape[-1]).T @ x.reshape(-1, x.shape[-1])

    def both_gradients(self, g: Tensor, x: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        return self.input_gradient(g, x, w), self.weight_gradient(g, x, w)

    def bias_gradient(self, g: Tensor) -> Tensor:
        return g.reshape(-1, g.shape[-1]).sum(0)


@dataclass(frozen=True)
class MatMulShape(LinearShape):
    """(…, M, K) @ (…, K, N). The left factor stands where a layer's input stands, the right one where its weight does."""

    samples: int

    def positions(self, x: Tensor, rounder: Rounder) -> Tensor:
        """The left factor or G in blocks along its columns."""
        return rounder(x, -2)

    def weight(self, w: Tensor, rounder: Rounder, *, along_inputs: bool) -> Tensor:
        """The right factor in blocks along K or along N."""
        return rounder(w, -2, self.samples) if along_inputs else rounder(w, -1)

    def run(self, x: Tensor, w: Tensor, bias: Tensor | None) -> Tensor:
        return x @ w if bias is None else x @ w + bias

    def input_gradient(self, g: Tensor, x: Tensor, w: Tensor) -> Tensor:
        return g @ w.mT

    def weight_gradient(self, g: Tensor, x: Tensor, w: Tensor) -> Tensor:
        return x.mT @ g


@dataclass(frozen=True)
class ConvShape:
    """(N, channels, positions…); the weight is (outputs, inputs / groups, taps…), transposed: (inputs, outputs / groups, taps…)."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    transposed: bool
    output_padding: tuple[int, ...]

    def channels(self, x: Tensor, rounder: Rounder, samples: int) -> Tensor:
        """x or G in blocks along the channels of a group."""
        if rounder.idle:
            return x
        if self.groups == 1:
            return rounder(x, 1, samples)
        return rounder(x.unflatten(1, (self.groups, -1)), 2, samples).flatten(1, 2)

    def positions(self, x: Tensor, rounder: Rounder) -> Tensor:
        """x or G in blocks along the positions of a sample."""
        if rounder.idle:
            return x
        return rounder(x.flatten(2), 2).reshape(x.shape)

    def weight(self, w: Tensor, rounder: Rounder, *, along_inputs: bool) -> Tensor:
        """The weight in blocks along the inputs or the outputs of a group, at each tap; per channel: over the taps too."""
        if rounder.idle:
            return w
        # (groups, outputs, inputs, taps…), transposed: (groups, inputs, outputs, taps…)
        split = w.unflatten(0, (self.groups, -1))
        along = 2 if along_inputs != self.transposed else 1
        if rounder.whole_channel:
            lines = split.movedim(3 - along, 1)
            return rounder(lines.flatten(2), 2).reshape(lines.shape).movedim(1, 3 - along).reshape(w.shape)
        return rounder(split, (1, 2) if rounder.square else along).reshape(w.shape)

    def run(self, x: Tensor, w: Tensor, bias: Tensor | None) -> Tensor:
        return torch.convolution(
            x, w, bias, self.stride, self.padding, self.dilation, self.transposed, self.output_padding, self.groups
        )

    def _gradients(self, g: Tensor, x: Tensor, w: Tensor, mask: Sequence[bool]) -> Any:
        return torch.ops.aten.convolution_backward(
            g,
            x,
            w,
            None,
            self.stride,
            self.padding,
            self.dilation,
            self.transposed,
            self.output_padding,
            self.groups,
            mask,
        )

    def input_gradient(self, g: Tensor, x: Tensor, w: Tensor) -> Tensor:
        return self._gradients(g, x, w, (True, False, False))[0]

    def weight_gradient(self, g: Tensor, x: Tensor, w: Tensor) -> Tensor:
        return self._gradients(g, x, w, (False, True, False))[1]

    def both_gradients(self, g: Tensor, x: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        return self._gradients(g, x, w, (True, True, False))[:2]

    def bias_gradient(self, g: Tensor) -> Tensor:
        return g.sum((0, *range(2, g.dim())))


Shape = LinearShape | ConvShape

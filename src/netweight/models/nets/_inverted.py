"""Inverted residuals and a U-Net of them: what the depthwise and the EfficientNet-like net share.

Sources: Sandler et al., arXiv 1801.04381, section 3 (inverted residuals); Hu et al., arXiv 1709.01507 (squeeze and excitation);
Tan & Le, arXiv 1905.11946 (both in one block); Ronneberger et al., arXiv 1505.04597 (the U). Every pointwise convolution reads
a multiple of 16 channels, so that blocks of 16 fit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from netweight.models.nets._initial import initialise
from netweight.models.nets._net import Net

# Three channels; nine or more taps of one channel, no matrix to cut into blocks; one output.
UNQUANTIZED = ("first.*", "*.depthwise.*", "last")
UNIT = 16  # channels are multiples of it


@dataclass(frozen=True)
class Level:
    """Blocks at one resolution; the first halves the side, but for the first level's."""

    width: int  # channels
    blocks: int
    kernel: int = 3


@dataclass(frozen=True)
class Size:
    levels: tuple[Level, ...]
    # hidden channels over a block's input; 1 at the first level and on the way up, where images are large
    expansion: int


class Squeeze(nn.Module):
    """One factor per channel, from the means of all: squeeze and excitation."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(channels, squeezed, 1), nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.fc2(F.silu(self.fc1(x.mean((2, 3), keepdim=True)))).sigmoid()


class Inverted(nn.Module):
    """Wide between narrow ends: expand, filter each channel by itself, squeeze where asked, project; added to the input where it fits."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        expansion: int,
        activation: Callable[[], nn.Module],
        squeeze: bool,
        kernel: int = 3,
        stride: int = 1,
    ) -> None:
        super().__init__()
        hidden = expansion * inputs
        expand = (*_normed(nn.Conv2d(inputs, hidden, 1, bias=False)), activation()) if expansion > 1 else ()
        self.expand = nn.Sequential(*expand)
        depthwise = nn.Conv2d(hidden, hidden, kernel, stride, kernel // 2, groups=hidden, bias=False)
        self.depthwise = nn.Sequential(*_normed(depthwise), activation())
        self.squeeze = Squeeze(hidden, max(UNIT, inputs // 4 // UNIT * UNIT)) if squeeze else nn.Identity()
        self.project = nn.Sequential(*_normed(nn.Conv2d(hidden, outputs, 1, bias=False)))
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.squeeze(self.depthwise(self.expand(x))))
        return x + y if self.residual else y


def _normed(conv: nn.Conv2d) -> tuple[nn.Module, nn.Module]:
    return conv, nn.BatchNorm2d(conv.out_channels)


class InvertedUNet(Net):
    """Levels at 1/2, 1/4, ... of the side; on the way up each reads the level below, twice as large, beside its own."""

    def __init__(
        self, size: Size, image: int, channels: int, *, activation: Callable[[], nn.Module], squeeze: bool
    ) -> None:
        super().__init__(image, channels, multiple=2 ** len(size.levels))
        widths = [level.width for level in size.levels]

        def block(inputs: int, outputs: int, expansion: int, kernel: int = 3, stride: int = 1) -> Inverted:
            return Inverted(inputs, outputs, expansion=expansion, activation=activation, squeeze=squeeze,
                            kernel=kernel, stride=stride)  # fmt: skip

        stem = nn.Conv2d(channels, widths[0], 3, stride=2, padding=1, bias=False)
        self.first = nn.Sequential(*_normed(stem), activation())
        self.down = nn.ModuleList()
        inputs = widths[0]
        for number, level in enumerate(size.levels):
            expansion, stride = (size.expansion, 2) if number else (1, 1)
            starts = [block(inputs, level.width, expansion, level.kernel, stride)]
            rest = [block(level.width, level.width, expansion, level.kernel) for _ in range(level.blocks - 1)]
            self.down.append(nn.Sequential(*starts, *rest))
            inputs = level.width
        pairs = zip(widths[:0:-1], widths[-2::-1], strict=True)
        self.up = nn.ModuleList(block(below + beside, beside, 1) for below, beside in pairs)
        self.last = nn.ConvTranspose2d(widths[0], 1, 2, stride=2)
        initialise(self)

    def logits(self, images: Tensor) -> Tensor:
        x = self.first(images.contiguous(memory_format=torch.channels_last))  # faster on a CPU
        levels = []
        for level in self.down:
            x = level(x)
            levels.append(x)
        x = levels.pop()
        for block in self.up:
            x = block(torch.cat([F.interpolate(x, scale_factor=2.0), levels.pop()], 1))
        return self.last(x)

"""A convolutional U-Net of constant width: 4x4 convolutions of stride 2 down, transposed ones up, skips between them.

Source: Du & Rybakov, arXiv 2605.27616, the authors' code; in the manner of Isola et al., arXiv 1611.07004. Every convolution
but the last has a bias and a batch norm.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from netweight.models.nets._dropout import Dropout
from netweight.models.nets._initial import initialise
from netweight.models.nets._net import Net

SUMMARY = "convolutional U-Net of constant width"
# the first encoder convolution, the last one, and the last of the decoder
UNQUANTIZED = ("first.*", "bottleneck.*", "last")
DROPOUT = 0.5


@dataclass(frozen=True)
class Size:
    stages: int
    width: int  # channels of every stage


SIZES = {"500k": Size(4, 64), "4m": Size(6, 128), "15m": Size(7, 224)}


def make(size: str, image: int, channels: int, dropout: float = DROPOUT) -> Net:
    return CNN(SIZES[size], image, channels, dropout)


class Stage(nn.Module):
    """A convolution, its norm, an activation, and dropout where it is not 0."""

    def __init__(self, conv: nn.Module, width: int, activation: nn.Module, dropout: float = 0.0) -> None:
        super().__init__()
        self.conv, self.norm, self.activation = conv, nn.BatchNorm2d(width), activation
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.activation(self.norm(self.conv(x))))


def down(inputs: int, width: int, activation: nn.Module, dropout: float) -> Stage:
    return Stage(nn.Conv2d(inputs, width, 4, stride=2, padding=1), width, activation, dropout)


def up(inputs: int, width: int) -> Stage:
    return Stage(nn.ConvTranspose2d(inputs, width, 4, stride=2, padding=1), width, nn.ReLU())


class CNN(Net):
    """Each ``down`` and ``up`` halves and doubles the side; from the second on, ``up`` also reads what was skipped."""

    def __init__(self, size: Size, image: int, channels: int, dropout: float) -> None:
        super().__init__(image, channels, multiple=2**size.stages)
        width = size.width
        self.first = down(channels, width, nn.LeakyReLU(0.2), dropout)
        self.down = nn.ModuleList(down(width, width, nn.ReLU(), dropout) for _ in range(size.stages - 2))
        self.bottleneck = down(width, width, nn.ReLU(), dropout)
        self.up = nn.ModuleList(up(width if level == 0 else 2 * width, width) for level in range(size.stages - 1))
        self.last = nn.ConvTranspose2d(2 * width, 1, 4, stride=2, padding=1)
        initialise(self)

    def logits(self, images: Tensor) -> Tensor:
        x = self.first(images.contiguous(memory_format=torch.channels_last))  # faster on a CPU
        skipped = [x]
        for stage in self.down:
            x = stage(x)
            skipped.append(x)
        x = self.bottleneck(x)
        for stage in self.up:
            x = torch.cat([stage(x), skipped.pop()], 1)
        return self.last(x)

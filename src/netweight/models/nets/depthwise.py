"""A U-Net of MobileNetV2's inverted residuals: pointwise and depthwise convolutions, ReLU6.

Source: Sandler et al., arXiv 1801.04381; widths and depths are our own, for the budgets of models/nets.
"""

from __future__ import annotations

from torch import nn

from netweight.models.nets._inverted import UNQUANTIZED, InvertedUNet, Level, Size
from netweight.models.nets._net import Net

__all__ = ["SIZES", "SUMMARY", "UNQUANTIZED", "make"]

SUMMARY = "U-Net of inverted residuals, as in MobileNetV2"
SIZES = {
    "500k": Size((Level(16, 1), Level(32, 2), Level(64, 2), Level(96, 3), Level(112, 2)), expansion=4),
    "4m": Size((Level(32, 1), Level(64, 3), Level(96, 4), Level(192, 4), Level(320, 3)), expansion=4),
    "15m": Size((Level(48, 1), Level(96, 3), Level(160, 5), Level(288, 6), Level(560, 4)), expansion=4),
}


def make(size: str, image: int, channels: int) -> Net:
    return InvertedUNet(SIZES[size], image, channels, activation=nn.ReLU6, squeeze=False)

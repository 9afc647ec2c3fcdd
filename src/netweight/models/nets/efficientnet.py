"""A U-Net of EfficientNet's blocks: inverted residuals with squeeze and excitation, 3x3 and 5x5 filters, SiLU.

Source: Tan & Le, arXiv 1905.11946; widths and depths are our own, for the budgets of models/nets; no layer is dropped in training.
"""

from __future__ import annotations

from torch import nn

from netweight.models.nets._inverted import UNQUANTIZED as AROUND
from netweight.models.nets._inverted import InvertedUNet, Level, Size
from netweight.models.nets._net import Net

SUMMARY = "U-Net of EfficientNet's blocks, with squeeze and excitation"
UNQUANTIZED = (*AROUND, "*.squeeze.*")  # squeezing works on one number per channel and image
SIZES = {
    "500k": Size((Level(16, 1), Level(32, 2), Level(48, 2, 5), Level(80, 3), Level(112, 2, 5)), expansion=4),
    "4m": Size((Level(32, 1), Level(48, 2), Level(96, 3, 5), Level(176, 4), Level(288, 3, 5)), expansion=4),
    "15m": Size((Level(48, 1), Level(96, 3), Level(160, 4, 5), Level(288, 6), Level(560, 3, 5)), expansion=4),
}


def make(size: str, image: int, channels: int) -> Net:
    return InvertedUNet(SIZES[size], image, channels, activation=nn.SiLU, squeeze=True)

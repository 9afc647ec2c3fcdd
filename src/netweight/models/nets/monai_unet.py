"""MONAI's U-Net with residual units, in two dimensions.

Source: Kerfoot et al. 2019, doi:10.1007/978-3-030-12029-0_40, as in MONAI; widths are multiples of 16, for the budgets of models/nets.
"""

from __future__ import annotations

from netweight.models.nets._monai import MonaiNet, monai_nets
from netweight.models.nets._net import Net

SUMMARY = "MONAI's U-Net with residual units"
# what reads images; what gives logits
UNQUANTIZED = ("net.model.0.conv.unit0.*", "net.model.0.residual", "net.model.2.*")
SIZES = {"500k": (16, 32, 64, 160), "4m": (48, 96, 192, 384), "15m": (96, 192, 384, 736)}  # channels of each level
UNITS = 2  # convolutions of a residual unit


def make(size: str, image: int, channels: int) -> Net:
    widths = SIZES[size]
    strides = (2,) * (len(widths) - 1)
    net = monai_nets().UNet(2, channels, 1, channels=widths, strides=strides, num_res_units=UNITS)
    return MonaiNet(net, image, channels, multiple=2 ** len(strides))

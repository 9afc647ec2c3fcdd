"""MONAI's SwinUNETR, in two dimensions: four levels of shifted windows that merge patches, and a convolutional decoder.

Source: Hatamizadeh et al., arXiv 2201.01266, as in MONAI. Its convolutions outweigh the smallest budget of models/nets.
"""

from __future__ import annotations

from dataclasses import dataclass

from netweight.models.nets._monai import MonaiNet, monai_nets
from netweight.models.nets._net import Net

SUMMARY = "MONAI's SwinUNETR"
# As in our own Swin, only the transformer's linear layers are rounded; not where the width is no multiple of 16 (the first two
# levels), nor where patches merge.
UNQUANTIZED = ("net.swinViT.patch_embed.*", "net.swinViT.layers[12].*", "*.downsample.*", "net.encoder*", "net.decoder*", "net.out.*")  # fmt: skip
HEADS = (1, 2, 4, 8)
WINDOW = 4


@dataclass(frozen=True)
class Size:
    width: int  # MONAI's feature_size: channels of the first level, a multiple of 12
    depths: tuple[int, ...]  # blocks of each level


SIZES = {"4m": Size(12, (2, 2, 6, 20)), "15m": Size(36, (2, 2, 2, 2))}


def make(size: str, image: int, channels: int) -> Net:
    row = SIZES[size]
    net = monai_nets().SwinUNETR(in_channels=channels, out_channels=1, feature_size=row.width, depths=row.depths,
                                 num_heads=HEADS, window_size=WINDOW, spatial_dims=2)  # fmt: skip
    return MonaiNet(net, image, channels, multiple=32)

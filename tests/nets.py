"""Small random image networks, and their batches: what tests of vision nets share."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def filled(module: nn.Module, *, seed: int = 0, gain: float = 1.0) -> nn.Module:
    """Every parameter drawn anew, weights so that signals keep their size, batch norms with statistics that matter."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in module.named_parameters():
        spread = gain * (2 / value[0].numel()) ** 0.5 if value.dim() > 1 else 0.2
        value.data.normal_(0, spread, generator=generator)
        if value.dim() == 1 and name.endswith("weight"):
            value.data.add_(1)
    for name, value in module.named_buffers():
        if name.endswith("running_var"):
            value.data.uniform_(0.5, 2, generator=generator)
        elif name.endswith("running_mean"):
            value.data.normal_(0, 0.3, generator=generator)
    return module.eval()


def images(
    count: int = 8, *, channels: int = 3, size: tuple[int, ...] = (16, 16), rows: int = 2, seed: int = 1
) -> list:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(rows, channels, *size, generator=generator) for _ in range(count)]


class Double(nn.Module):
    """Two convolutions with batch norms; the input is changed in place, as some nets do."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs)
        self.conv2, self.norm2 = nn.Conv2d(outputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(self.conv1(x.mul_(0.9))).relu_()
        return self.norm2(self.conv2(x)).relu_()


class Join(nn.Module):
    """Goes up one level: reads the level below and, beside it, what was skipped."""

    def __init__(self, below: int, beside: int) -> None:
        super().__init__()
        self.up, self.pair = nn.ConvTranspose2d(below, beside, 2, stride=2), Double(2 * beside, beside)

    def forward(self, x: Tensor, *, skipped: Tensor) -> Tensor:
        return self.pair(torch.cat([self.up(x), skipped], 1))


class UNet(nn.Module):
    """Ronneberger et al., arXiv 1505.04597, three levels; blocks read two tensors, and what runs between them pools."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 1)
        self.gain = nn.Parameter(torch.ones(1))
        self.down = nn.ModuleList([Double(8, 8), Double(8, 16), Double(16, 32)])
        self.joins = nn.ModuleList([Join(16, 8), Join(32, 16)])  # in the opposite order of their use
        self.last = nn.Conv2d(8, 2, 1)
        self.aside = nn.Linear(4, 4)  # does not run

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.first(x) * self.gain
        kept = []
        for level, double in enumerate(self.down):
            x = double(x.clone() if level == 0 else nn.functional.max_pool2d(x, 2))
            kept.append(x)
        x = self.joins[1](kept[2], skipped=kept[1])
        return {"logits": self.last(self.joins[0](x, skipped=kept[0]))}


UNET_BLOCKS = ("first", "down.0", "down.1", "down.2", "joins.1", "joins.0", "last")  # as they run

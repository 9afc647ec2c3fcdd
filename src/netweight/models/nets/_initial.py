"""Initial weights, drawn from torch's own generator, which ``build`` has seeded.

Convolutions: He et al., arXiv 1502.01852, with the inputs that one output reads, also for transposed ones. Linear layers:
Glorot & Bengio 2010, uniform, as in ViT (arXiv 2010.11929, appendix B). Norms begin as 1 and 0, biases as 0.
"""

from __future__ import annotations

from math import prod

from torch import nn

TABLE_STD = 0.02  # of positions and other learned tables


def initialise(module: nn.Module) -> None:
    """Draw the weights of every convolution and linear layer inside, in module order."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(part.weight, std=(2 / inputs_read(part)) ** 0.5)
        elif isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
        else:
            continue
        if part.bias is not None:
            nn.init.zeros_(part.bias)


def inputs_read(conv: nn.Conv2d | nn.ConvTranspose2d) -> float:
    """Numbers that one output of the convolution is a sum of, on average and away from the border."""
    taps = prod(conv.kernel_size)
    if isinstance(conv, nn.ConvTranspose2d):
        taps /= prod(conv.stride)
    return conv.in_channels // conv.groups * taps

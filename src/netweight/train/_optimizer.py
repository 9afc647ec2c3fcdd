"""The optimizers of training. Sources: Adamax, Kingma & Ba, arXiv 1412.6980, section 7; AdamW, Loshchilov & Hutter, arXiv 1711.05101."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.optim import Adamax, AdamW, Optimizer

from netweight.train._settings import Training


def optimizer(parameters: Sequence[Tensor], settings: Training, *, lr: float | None = None) -> Optimizer:
    """What ``settings`` ask for, all parameters in a few calls: half a dozen calls for each would be a twentieth of a small net's step.

    Args:
      lr: rate; that of ``settings`` if None.
    """
    lr = settings.lr if lr is None else lr
    if settings.optimizer == "adamax":
        return Adamax(parameters, lr=lr, weight_decay=settings.weight_decay, foreach=True)
    return AdamW(parameters, lr=lr, weight_decay=settings.weight_decay, fused=True)

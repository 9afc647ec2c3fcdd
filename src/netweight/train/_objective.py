"""What segmentation is trained for: cross-entropy of pixels plus one minus the Tversky index of images.

The Tversky index weighs missed pixels heavier than false alarms (0.7 to 0.3), which is what a net that must miss nothing wants.
Source: Salehi et al., arXiv 1706.05721 (the index); the sum and its constants are those of arXiv 2605.27616.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

LIMIT = 20.0  # logits beyond are cut off, so that no pixel's cross-entropy is without bounds
SMOOTH = 1e-5


def bce_tversky(
    logits_B1HW: Tensor, masks_BHW: Tensor, *, false_positive: float = 0.3, false_negative: float = 0.7
) -> Tensor:
    """Mean cross-entropy plus one minus the mean Tversky index of the images.

    Args:
      logits_B1HW: one logit a pixel; those beyond +-20 are cut off.
      masks_BHW: 0 and 1, any type.
    Returns:
      a scalar. An image with an empty mask and no alarm has an index of 1.
    """
    logits = logits_B1HW.squeeze(1).float().clamp(-LIMIT, LIMIT)
    masks = masks_BHW.to(logits.dtype)
    chance = torch.sigmoid(logits)
    hit = (chance * masks).sum((1, 2))
    alarm = (chance * (1 - masks)).sum((1, 2))
    missed = ((1 - chance) * masks).sum((1, 2))
    index = (hit + SMOOTH) / (hit + false_positive * alarm + false_negative * missed + SMOOTH)
    return binary_cross_entropy_with_logits(logits, masks) + 1 - index.mean()


def distillation(logits_B1HW: Tensor, teacher_B1HW: Tensor, *, temperature: float = 2.0) -> Tensor:
    """Cross-entropy against a teacher's softened pixels, times the square of the temperature.

    Source: Hinton et al., arXiv 1503.02531; for quantized nets arXiv 2601.20088.
    """
    wanted = torch.sigmoid(teacher_B1HW.float() / temperature)
    return temperature**2 * binary_cross_entropy_with_logits(logits_B1HW.float() / temperature, wanted)

"""Which precision a machine has of its own."""

from __future__ import annotations

import torch


def has_bf16(device: str = "cpu") -> bool:
    """Has it instructions for bfloat16? Elsewhere torch emulates it, on processors dozens of times slower than float32.

    Args:
      device: a kind, "cpu" or "cuda".
    """
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def bf16_or_why_not(wanted: str, device: str = "cpu") -> tuple[bool, str]:
    """Whether products are to be in bfloat16 where a recipe's ``precision`` is this, and what to say where it asks in vain."""
    asked = wanted == "bf16"
    has = asked and has_bf16(device)
    return has, "in fp32, as this processor has no bf16" if asked and not has else ""

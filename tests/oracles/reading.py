"""What a QTensor holds, as NumPy arrays with the meaning of stored scale bytes resolved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from oracles import minifloats


@dataclass(frozen=True)
class Read:
    """codes as stored; scales, zeros and values as float64."""

    codes: np.ndarray
    scale: np.ndarray
    zero: np.ndarray | None
    tensor_scale: float | None
    values: np.ndarray


def read(q: Any) -> Read:
    """A netweight QTensor (or anything with its fields) as arrays."""
    import torch

    tensor_scale = None if q.tensor_scale is None else float(q.tensor_scale)
    zero = None if q.zero is None else q.zero.double().numpy()
    values = q.decode(torch.float32).double().numpy()
    return Read(q.codes.numpy(), scale_values(q.scale, q.format.name), zero, tensor_scale, values)


def scale_values(scale: Any, format_name: str) -> np.ndarray:
    """Scales as float64; a uint8 tensor holds E8M0 (MX) or E4M3 (NVFP4) codes."""
    import torch

    if scale.dtype == torch.uint8:
        kind = "e8m0" if format_name.startswith("mx") else "e4m3"
        return minifloats.values(kind)[scale.numpy()]
    return scale.float().double().numpy()


def with_codes(q: Any, codes: Any) -> Any:
    """The same scales under other codes."""
    return type(q)(codes, q.params, q.format)

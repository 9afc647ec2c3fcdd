"""Matrices whose rows are one group: the case in which a transposed array keeps odd strides."""

from __future__ import annotations

import pytest
import torch

from netweight import formats
from netweight.artifact import _layout


@pytest.mark.parametrize("layout", ["compressed-tensors", "netweight"])
@pytest.mark.parametrize("name", ["int4-g32", "int8-g32", "int4-channel", "int4-sym-g32", "nvfp4", "mxfp4"])
@pytest.mark.parametrize("outputs", [8, 64])
def test_a_matrix_of_one_group_per_row_is_stored_and_restored(name: str, outputs: int, layout):
    format = formats.get(name)
    if layout == "compressed-tensors" and not _layout.compression_format(format):
        pytest.skip(f"compressed-tensors cannot express {name}")
    weight_OI = torch.randn(outputs, 32, generator=torch.Generator().manual_seed(outputs))
    q = formats.quantize(weight_OI, format)
    tensors = _layout.store("layer", q, layout)
    back = formats.unpack(_layout.arrays_of("layer", tensors, format, layout), format, (outputs, 32))
    assert torch.equal(back.decode(), q.decode())

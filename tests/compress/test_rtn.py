"""Round to nearest is the format itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from compress.problems import KINDS, problem, solve
from netweight import formats
from oracles import number_formats as nf


@pytest.mark.parametrize("kind", KINDS)
def test_it_gives_the_values_of_the_oracle(kind):
    p = problem(kind, 0)
    for name in ("int3-g16", "int4-sym-channel", "nvfp4", "e4m3-tensor"):
        got = solve("rtn", p, name).decode(torch.float32).numpy()
        np.testing.assert_array_equal(got, nf.quantized(name, p.weight_OI))


@pytest.mark.parametrize("name", [f.name for f in formats.catalogue() if f.rows == 1 and f.group <= 64])
def test_it_gives_what_the_format_gives(name):
    p = problem("plain", 1, inputs=128)
    got, want = solve("rtn", p, name), formats.quantize(p.weight, formats.get(name))
    assert torch.equal(got.codes, want.codes)
    assert torch.equal(got.decode(torch.float32), want.decode(torch.float32))

"""``not_finite`` counts what is NaN or infinite, also where a sum overflows."""

import pytest
import torch

from netweight import formats


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_counts(dtype: torch.dtype):
    values = torch.ones(7, 5, dtype=dtype)
    assert formats.not_finite(values) == 0
    values[3, 1], values[0, 0], values[6, 4] = float("nan"), float("inf"), -float("inf")
    assert formats.not_finite(values) == 3


def test_large_values_whose_sum_is_infinite_are_finite():
    assert formats.not_finite(torch.full((100,), 6e4, dtype=torch.float16)) == 0
    assert formats.not_finite(torch.full((4,), 3e38)) == 0


def test_whole_numbers_and_nothing_are_finite():
    assert formats.not_finite(torch.arange(5)) == 0
    assert formats.not_finite(torch.empty(0)) == 0

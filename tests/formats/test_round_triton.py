"""The GPU's form of ``round_blocks`` against the plain one: on a GPU where there is one, else in Triton's interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from formats.rounding_cases import LAYOUTS, SIGNS, inputs_of, options_of, random, reference, same_bits
from netweight.formats import _round, _round_reference, _round_triton
from netweight.formats._layout import dense, layout

pytest.importorskip("triton", reason="Triton is not installed")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def rounded(x, name, *, axis, rounding="nearest", seed=0, signs=None, rule="amax", samples=1):
    """As ``reference``, by the kernels."""
    request, x = _round.requested(name, rule, signs), dense(x, samples).to(DEVICE)
    out = torch.empty_strided(x.shape, x.stride(), device=DEVICE)
    plan = layout(tuple(x.shape), x.stride(), axis, request.format.rows, samples)
    _round_triton.round_into(out, x, plan, request, rounding == "stochastic", seed, samples)
    return out.cpu()


@pytest.mark.parametrize(("shape", "axis"), LAYOUTS)
@pytest.mark.parametrize("name", ["nvfp4", "nvfp4-2d", "mxfp4"])
def test_it_equals_the_plain_form_to_the_bit(shape, axis, name):
    inputs = list(inputs_of(shape))
    for n, options in enumerate(options_of(name, shape, axis)):
        if options["rule"] == "four-over-six" and name == "nvfp4-2d" and shape != (40, 64) and DEVICE.type == "cpu":
            continue  # the interpreter takes seconds to add up 256 errors
        x = inputs[(n + n // len(inputs)) % len(inputs)]  # every setting meets every input somewhere
        assert same_bits(rounded(x, name, **options), reference(x, name, **options)), options


@pytest.mark.parametrize("name", ["nvfp4", "nvfp4-2d", "mxfp4"])
def test_zeros_of_both_signs_and_the_ends_of_float32(name):
    x = torch.zeros(64, 64)
    x[1], x[2] = -0.0, 1e-42
    x[40], x[41, 3] = 3e38, -3e38
    options = {"axis": (0, 1) if name == "nvfp4-2d" else 1}
    assert same_bits(rounded(x, name, **options), reference(x, name, **options))


@pytest.mark.filterwarnings("ignore:.*(overflow|All-NaN).*:RuntimeWarning")  # of the interpreter's NumPy
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("signs", [None, SIGNS])
def test_what_is_not_finite_spoils_its_sample_and_no_other(bad, signs):
    x = random(3, 4, 32, seed=2)
    x[1, 2, 5] = bad
    options = {"axis": 2, "samples": 3, "signs": signs}
    got, want = rounded(x, "nvfp4", **options), reference(x, "nvfp4", **options)
    assert torch.isnan(got[1]).all() and same_bits(got[[0, 2]], want[[0, 2]])


def test_the_result_may_take_the_place_of_what_was_rounded():
    x = random(16, 64, seed=3).to(DEVICE)
    want = reference(x.cpu(), "nvfp4", axis=0, signs=SIGNS)
    plan = layout((16, 64), x.stride(), 0, 1, 1)
    _round_triton.round_into(x, x, plan, _round.requested("nvfp4", "amax", SIGNS), False, 0, 1)
    assert same_bits(x.cpu(), want)


@pytest.mark.parametrize(
    ("name", "form"), [("nvfp4", _round_triton), ("mxfp4-ragged", _round_triton), ("int8-sym-g32", _round_reference)]
)
def test_a_tensor_on_a_gpu_is_rounded_by_the_kernels_where_they_know_the_format(name, form):
    there = SimpleNamespace(device=torch.device("cuda"))
    assert _round._form(there, _round.requested(name, "amax", None)) is form.round_into  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("architecture", [80, 90, 100])
def test_the_kernels_compile_for_a_gpu_that_is_not_there(architecture):
    script = Path(__file__).parent / "compile_round.py"
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, str(script), str(architecture)], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 8

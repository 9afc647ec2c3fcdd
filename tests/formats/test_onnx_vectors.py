"""The reference vectors of the ONNX backend tests: each is either checked here or listed with the reason why not."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from netweight import formats
from oracles.reading import with_codes

FOLDER = Path(os.environ.get("NETWEIGHT_DATA", "../shared/data")) / "onnx-quant-vectors"
pytestmark = pytest.mark.skipif(not FOLDER.exists(), reason="the ONNX reference vectors are not on this machine")

KIND = {"FLOAT4E2M1": "e2m1", "FLOAT8E4M3FN": "e4m3", "FLOAT8E5M2": "e5m2", "FLOAT8E8M0": "e8m0"}
CASTS_UP = [f"test_cast_{k}_to_{to}" for k in list(KIND)[:3] for to in ("FLOAT", "FLOAT16")]
CASTS_UP += ["test_cast_e8m0_FLOAT8E8M0_to_FLOAT", "test_cast_e8m0_FLOAT8E8M0_to_FLOAT16"]
CASTS_DOWN = [f"test_cast_{of}_to_{k}" for k in list(KIND)[:3] for of in ("FLOAT", "FLOAT16")]
CASTS_DOWN += [f"test_cast_no_saturate_{of}_to_{k}" for k in list(KIND)[1:3] for of in ("FLOAT", "FLOAT16")]
QUANTIZE = {  # test: (format, permutation that brings the reduction last, offset of signed codes)
    "test_quantizelinear": ("int8-tensor", None, 0),
    "test_quantizelinear_axis": ("int8-channel", (1, 0, 2, 3), 0),
    "test_quantizelinear_blocked_asymmetric": ("int8-g2", None, 0),
    "test_quantizelinear_uint4": ("int4-channel", None, 0),
    "test_quantizelinear_int4": ("int4-channel", None, 8),
    "test_quantizelinear_float4e2m1": ("e2m1-channel", None, 0),
    "test_quantizelinear_e4m3fn": ("e4m3-tensor", None, 0),
    "test_quantizelinear_e5m2": ("e5m2-tensor", None, 0),
}
DEQUANTIZE = {
    "test_dequantizelinear": ("int8-tensor", None, 0),
    "test_dequantizelinear_axis": ("int8-channel", (1, 0, 2, 3), 0),
    "test_dequantizelinear_blocked": ("int8-g2", (0, 2, 3, 1), 0),
    "test_dequantizelinear_uint4": ("int4-tensor", None, 0),
    "test_dequantizelinear_int4": ("int4-tensor", None, 8),
    "test_dequantizelinear_float4e2m1": ("e2m1-tensor", None, 0),
    "test_dequantizelinear_e4m3fn": ("e4m3-tensor", None, 0),
    "test_dequantizelinear_e4m3fn_float16": ("e4m3-tensor", None, 0),
    "test_dequantizelinear_e4m3fn_zero_point": ("e4m3-tensor", None, 0),
    "test_dequantizelinear_e5m2": ("e5m2-tensor", None, 0),
}
LEFT_OUT = {
    "FNUZ": "the FNUZ variants are not among netweight's formats",
    "int16": "16-bit integers are not among netweight's formats",
    "blocked_symmetric": "its codes are 16-bit integers",
    "INT4": "a cast to or from a plain integer has no scale: it is no format of ours",
    "BFLOAT16": "torch's own cast, nothing of ours",
    "DOUBLE": "torch's own cast, nothing of ours",
    "FLOAT16_to_FLOAT": "torch's own cast, nothing of ours",
    "FLOAT_to_FLOAT16": "torch's own cast, nothing of ours",
    "dynamicquantizelinear": "its scale stays in fp32, ours is stored in fp16",
    "e8m0_FLOAT_to": "rounds up; ours rounds to the nearest",
    "e8m0_FLOAT16_to": "rounds up; ours rounds to the nearest",
}


@pytest.fixture(scope="module")
def vectors():
    return np.load(FOLDER / "vectors.npz")


def _index() -> dict[str, dict]:
    return {row["test"]: row for row in json.loads((FOLDER / "index.json").read_text())}


def _codes(array: np.ndarray, offset: int) -> np.ndarray:
    """Unsigned codes; a signed nibble becomes its distance from the lowest."""
    if not offset:
        return array.astype(np.uint8)
    nibble = array.astype(np.uint8) & 0xF
    return ((nibble ^ 8) & 0xF).astype(np.uint8)


def _matrix(array: np.ndarray, permutation: tuple[int, ...] | None) -> np.ndarray:
    """(rows that share scales, reduction)."""
    if permutation is None:
        return array.reshape(1, -1) if array.ndim < 2 else array
    moved = array.transpose(permutation)
    keep = moved.shape[0] if permutation[0] != 0 else int(np.prod(moved.shape[:-1]))
    return np.ascontiguousarray(moved).reshape(keep, -1)


def _params(format_name, weight, scale, zero):
    """Params with the vectors' scale and zero in the shapes ``fit`` uses."""
    fitted = formats.fit(torch.from_numpy(weight.astype(np.float32)), formats.get(format_name))
    scale = torch.from_numpy(np.asarray(scale, np.float32)).reshape(fitted.scale_RG.shape)
    if fitted.zero_RG is None:
        return formats.Params(scale)
    whole = torch.from_numpy(np.broadcast_to(zero, scale.shape).copy())
    return formats.Params(scale, whole.to(fitted.zero_RG.dtype))


def test_every_vector_is_checked_or_has_a_reason_not_to_be():
    checked = {*CASTS_UP, *CASTS_DOWN, *QUANTIZE, *DEQUANTIZE}
    assert len(_index()) == 76
    assert checked <= set(_index())
    left = [t for t in set(_index()) - checked if not any(part in t for part in LEFT_OUT)]
    assert left == []
    assert len(checked) == 36


@pytest.mark.parametrize("test", CASTS_UP)
def test_codes_have_the_values_of_onnx(vectors, test):
    kind = KIND[_index()[test]["inputs"][0]]
    got = formats.uncast(torch.from_numpy(vectors[f"{test}/in0"]), kind).double().numpy()
    want = vectors[f"{test}/out"]
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(got.astype(want.dtype), want)


@pytest.mark.parametrize("test", CASTS_DOWN)
def test_finite_numbers_and_infinities_cast_as_in_onnx(vectors, test):
    kind = KIND[_index()[test]["output"]]
    overflow = "nonfinite" if "no_saturate" in test else "saturate"
    x, want = vectors[f"{test}/in0"], vectors[f"{test}/out"]
    known = np.isfinite(x) if kind == "e2m1" else ~np.isnan(x)  # E2M1 has neither NaN nor infinity: ours is an error
    got = formats.cast(torch.from_numpy(x[known]), kind, overflow=overflow).numpy()
    np.testing.assert_array_equal(got, want[known])


@pytest.mark.parametrize("test", QUANTIZE)
def test_quantize_linear_gives_the_codes_of_onnx(vectors, test):
    name, permutation, offset = QUANTIZE[test]
    x = _matrix(vectors[f"{test}/in0"], permutation)
    zero = _codes(vectors[f"{test}/in2"], offset)
    scale = vectors[f"{test}/in1"]
    if zero.size > 1:
        zero = zero.reshape(-1, scale.shape[1] if scale.ndim == 2 else 1)
    params = _params(name, x, scale, zero)
    q = formats.encode(torch.from_numpy(x), params, formats.get(name))
    want = _matrix(_codes(vectors[f"{test}/out"], offset), permutation)
    if name.startswith("e"):  # ONNX adds a zero point of +0, which makes -0 into +0
        q = with_codes(q, torch.where(q.decode() == 0, 0, q.codes))
    np.testing.assert_array_equal(q.codes.numpy(), want)


@pytest.mark.parametrize("test", DEQUANTIZE)
def test_dequantize_linear_gives_the_values_of_onnx(vectors, test):
    name, permutation, offset = DEQUANTIZE[test]
    codes = _matrix(_codes(vectors[f"{test}/in0"], offset), permutation)
    scale = np.asarray(vectors[f"{test}/in1"], np.float32)
    zero = _codes(vectors[f"{test}/in2"], offset) if f"{test}/in2" in vectors else np.zeros(1, np.uint8)
    if name == "int8-g2":
        scale, zero = _matrix(scale, permutation), _matrix(zero, permutation)
    elif zero.size > 1:
        zero = zero.reshape(-1, 1)
    spread = np.linspace(-1, 1, codes.size).reshape(codes.shape)  # any weight: only the shapes of its scales matter
    params = _params(name, spread, scale, zero)
    q = formats.encode(torch.from_numpy(spread.astype(np.float32)), params, formats.get(name))
    got = with_codes(q, torch.from_numpy(codes)).decode(torch.float32).numpy()
    np.testing.assert_array_equal(got, _matrix(vectors[f"{test}/out"].astype(np.float32), permutation))

"""The GPU's kernels against the same reference: on a GPU where there is one, else in Triton's interpreter."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from netweight import formats
from netweight.errors import KernelError
from netweight.runtime import kernels
from netweight.runtime._linear import PackedConv2d, PackedEmbedding, PackedLinear
from netweight.runtime.kernels._ops import patches
from runtime_reference import product, random_matrix

pytest.importorskip("triton", reason="Triton is not installed")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
FORMATS = tuple(row.name for row in formats.catalogue() if kernels.unsupported(row) is None and row.bits <= 8)
SHAPES = (("int2-g64", 33, 65), ("int3-g16-s6", 31, 48), ("int4-g64", 129, 576), ("int4-sym-g128", 70, 300))
SHAPES += (("nvfp4", 65, 144), ("mxfp4", 32, 96), ("int4-channel", 5, 17), ("int3-g64", 1, 200), ("int8-g32", 160, 64))


def fused(q: formats.QTensor) -> kernels.PackedMatrix:
    return kernels.pack(formats.pack(q), q.format, q.shape).to(DEVICE)


def linear(q: formats.QTensor, x: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    p = fused(q)
    bias = None if bias is None else bias.to(DEVICE)
    return kernels.gpu().linear(x.to(DEVICE), p.data, p.row_scale, p.row_zero, bias, p.spec).cpu()


def matrix(name: str, outputs: int, inputs: int) -> formats.QTensor:
    format = formats.get(name)
    if format.group > 0 and inputs % format.group:
        format = formats.get(f"{name}-ragged") if name not in ("mxfp4", "nvfp4") else format
    return random_matrix(format, outputs, inputs)


def check(q: formats.QTensor, x: torch.Tensor) -> None:
    got = linear(q, x)
    assert got.dtype == x.dtype
    want, bound = product(q, x.double().numpy(), floats=True)
    if x.dtype == torch.float16:  # the result is rounded, and with many rows of x the weights are too
        rounded = np.abs(x.double().numpy()) @ np.abs(q.decode().double().numpy()).T
        bound = (
            bound + 2.0**-11 * (rounded + np.abs(want)) + 2.0**-20 * np.abs(x.double().numpy()).sum(-1, keepdims=True)
        )
    worst = np.abs(got.double().numpy() - want) - bound
    assert worst.max() <= 0, (q.format.name, q.shape, x.shape, float(worst.max()))


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", FORMATS)
def test_every_format(name: str):
    q = random_matrix(formats.get(name), 48, 128)
    check(q, random(2, 128))


@pytest.mark.parametrize(
    "name", ["int2-sym-g32", "int3-g64", "int4-g64-fz", "int5-channel", "ternary-g64", "mxfp4", "e4m3-g32"]
)
def test_many_rows(name: str):
    q = random_matrix(formats.get(name), 48, 128)
    check(q, random(9, 128))


@pytest.mark.parametrize(("name", "outputs", "inputs"), SHAPES)
def test_ragged_shapes_and_numbers_of_rows(name: str, outputs: int, inputs: int):
    q = matrix(name, outputs, inputs)
    for rows in (1, 3, 8, 17):
        check(q, random(rows, inputs, seed=rows))


@pytest.mark.parametrize("name", ["int4-g64", "int3-g64", "nvfp4"])
def test_half_precision(name: str):
    q = random_matrix(formats.get(name), 40, 192)
    for rows in (1, 20):
        check(q, random(rows, 192).half())


def test_bias_leading_shapes_and_nothing():
    q, bias = random_matrix(formats.get("int4-g64"), 40, 128), random(40, seed=1)
    for shape in ((2, 3, 128), (5, 4, 128)):
        x = random(*shape)
        want = linear(q, x.reshape(-1, 128)) + bias
        assert torch.allclose(linear(q, x, bias).reshape(-1, 40), want, rtol=0, atol=1e-6)
    assert linear(q, random(0, 128)).shape == (0, 40)


def test_rows_are_those_of_the_decoded_matrix():
    for name, outputs, inputs in SHAPES:
        q = matrix(name, outputs, inputs)
        p, index = fused(q), torch.tensor([outputs - 1, 0, outputs // 2])
        found = kernels.gpu().rows(index.to(DEVICE), p.data, p.row_scale, p.row_zero, p.spec).cpu()
        assert torch.allclose(found, q.decode()[index], rtol=1e-6, atol=1e-30), name
    with pytest.raises(KernelError, match="no such row"):
        kernels.gpu().rows(torch.tensor([outputs], device=DEVICE), p.data, p.row_scale, p.row_zero, p.spec)


def test_what_does_not_fit_is_refused():
    q = random_matrix(formats.get("int4-g64"), 40, 128)
    with pytest.raises(KernelError, match="x has 64 columns"):
        linear(q, random(2, 64))
    p = fused(q)
    with pytest.raises(KernelError, match="not on one device"):
        kernels.gpu().linear(random(2, 128).to("meta"), p.data, p.row_scale, p.row_zero, None, p.spec)


@pytest.mark.skipif(DEVICE.type != "cuda", reason="needs a CUDA GPU")
def test_modules_move_to_a_gpu_and_back():
    q = random_matrix(formats.get("int4-g64"), 40, 144 * 4)
    p, x = kernels.pack(formats.pack(q), q.format, q.shape), random(3, 576)
    layer, table = PackedLinear(p, None, exact=True), PackedEmbedding(p, torch.float32)
    want, row = layer(x), table(torch.tensor([7]))
    pair = torch.nn.ModuleList([layer, table]).to(DEVICE)
    assert pair[0].data.data_ptr() == pair[1].data.data_ptr()
    assert torch.allclose(pair[0](x.to(DEVICE)).cpu(), want, atol=1e-4)
    assert torch.allclose(pair[1](torch.tensor([7], device=DEVICE)).cpu(), row, atol=1e-6)
    assert torch.allclose(pair.to("cpu")[0](x), want, atol=1e-6)


def test_convolutions():
    channels, outputs = 16, 24
    q, bias, x = (
        random_matrix(formats.get("int4-g16"), outputs, channels * 6),
        random(outputs, seed=1),
        random(2, channels, 7, 9),
    )
    sizes = ((3, 2), (2, 1), (1, 0), (1, 2))
    p = fused(q)
    x_BLI = patches(x.to(DEVICE), *map(list, sizes))
    found = kernels.gpu().linear(x_BLI, p.data, p.row_scale, p.row_zero, bias.to(DEVICE), p.spec).mT
    weight = q.decode().reshape(outputs, 3, 2, channels).permute(0, 3, 1, 2)
    want = torch.nn.functional.conv2d(x.double(), weight.double(), bias.double(), *sizes[1:])
    assert torch.allclose(found.cpu().double(), want.flatten(2), rtol=0, atol=1e-4)


@pytest.mark.skipif(DEVICE.type != "cuda", reason="needs a CUDA GPU")
def test_convolution_modules_on_a_gpu():
    q = random_matrix(formats.get("int4-g64"), 24, 64 * 9)
    like = torch.nn.Conv2d(64, 24, 3, stride=2, padding=1)
    layer = PackedConv2d(kernels.pack(formats.pack(q), q.format, q.shape), like, exact=True)
    x = random(2, 64, 9, 11)
    want = layer(x)
    assert torch.allclose(layer.to(DEVICE)(x.to(DEVICE)).cpu(), want, atol=1e-3)


@pytest.mark.parametrize(("name", "architecture"), [("int4-g64", 80), ("int3-g64", 90), ("nvfp4", 100)])
def test_the_kernels_compile_for_a_gpu_that_is_not_there(name: str, architecture: int):
    script = Path(__file__).parent / "compile_triton.py"
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, str(script), name, str(architecture)], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert len(sizes := done.stdout.split()) == 4
    assert all(int(size) > 0 for size in sizes)

"""Products of packed matrices against the reference: all formats, levels, shapes, numbers of rows and of threads."""

import numpy as np
import pytest
import torch

from netweight import formats
from netweight.errors import KernelError, NotFiniteError
from netweight.runtime import kernels
from runtime_reference import decoded_input, product, random_matrix

FORMATS = tuple(row.name for row in formats.catalogue() if kernels.unsupported(row) is None and row.bits <= 8)
CORE = (
    "int2-g64", "int3-g64", "int4-g64", "int8-g64", "int2-sym-g32", "int3-sym-g32", "int4-sym-g128",
    "int8-sym-channel", "int3-g16-s6", "int4-sym-g32-s8", "int4-channel", "int4-g64-fz", "int8-g32",
    "ternary-g64", "mxfp4", "nvfp4", "e4m3-g64", "e2m1-g32", "int5-g64",
)  # fmt: skip


def linear(packed: kernels.PackedMatrix, x: torch.Tensor, *, bias=None, exact=False) -> torch.Tensor:
    return kernels.linear(x, packed.data, packed.row_scale, packed.row_zero, bias, packed.spec.numbers, exact)


def packed_of(q: formats.QTensor) -> kernels.PackedMatrix:
    return kernels.pack(formats.pack(q), q.format, q.shape)


def ragged(name: str) -> formats.Format:
    return formats.get(name if name in ("mxfp4", "nvfp4") or "channel" in name else f"{name}-ragged")


def inputs_for(format: formats.Format, wanted: int) -> int:
    return wanted if format.ragged or format.group <= 0 else -(-wanted // format.group) * format.group


def check(q: formats.QTensor, x: torch.Tensor, *, exact: bool = False) -> None:
    got = linear(packed_of(q), x, exact=exact).double().numpy()
    floats = exact or q.format.element == "e4m3"  # codes that have no whole-number form take float32 activations
    want, bound = product(q, x.double().numpy() if floats else decoded_input(x), floats=floats)
    worst = np.abs(got - want) - bound
    assert worst.max() <= 0, (q.format.name, q.shape, x.shape, float(np.abs(got - want).max()), float(bound.min()))


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_multiplies_exactly_up_to_float32_sums(name: str, isa: str):
    format = formats.get(name)
    q = random_matrix(format, 80 if format.rows > 1 else 70, inputs_for(format, 256))
    for rows in (1, 3, 11):
        check(q, torch.randn(rows, q.shape[1], generator=torch.Generator().manual_seed(rows)))


@pytest.mark.parametrize("name", CORE)
@pytest.mark.parametrize("shape", [(1, 16), (31, 48), (32, 64), (33, 65), (96, 576), (65, 1000)])
def test_ragged_shapes(name: str, shape: tuple[int, int], isa: str):
    format = ragged(name)
    q = random_matrix(format, shape[0], inputs_for(format, shape[1]))
    for rows in (1, 2, 9):
        check(q, torch.randn(rows, q.shape[1], generator=torch.Generator().manual_seed(rows)))


@pytest.mark.parametrize("name", ["int2-g64", "int3-g32", "int4-g64", "int4-sym-g128", "int8-g64", "nvfp4", "mxfp4"])
def test_every_number_of_rows(name: str, isa: str):
    q = random_matrix(formats.get(name), 64, 640)
    x = torch.randn(67, 640, generator=torch.Generator().manual_seed(0))
    for rows in range(1, 68):
        check(q, x[:rows])


@pytest.mark.parametrize("name", CORE)
def test_float_activations(name: str, isa: str):
    format = ragged(name)
    q = random_matrix(format, 40, inputs_for(format, 300))
    check(q, torch.randn(5, q.shape[1], generator=torch.Generator().manual_seed(1)), exact=True)


@pytest.mark.parametrize("name", ["int4-g64", "int2-sym-g32", "nvfp4", "int8-channel"])
def test_threads_do_not_change_a_bit(name: str, threads: int):
    q = random_matrix(formats.get(name), 1000, 512)
    packed, x = packed_of(q), torch.randn(40, 512, generator=torch.Generator().manual_seed(2))
    for rows in (1, 4, 40):
        many = linear(packed, x[:rows])
        kernels.set_threads(1)
        assert torch.equal(linear(packed, x[:rows]), many)
        kernels.set_threads(threads)


def test_outliers_cost_only_their_own_block(isa: str):
    q = random_matrix(formats.get("int4-g64"), 64, 512)
    x = torch.randn(12, 512, generator=torch.Generator().manual_seed(3))
    x[:, 7] *= 100
    for rows in (1, 12):
        got = linear(packed_of(q), x[:rows]).double()
        want = x[:rows].double() @ q.decode().double().T
        quiet = x[:rows].clone()
        quiet[:, :64] = 0
        # 8 bits of activations: half a step of each block's own scale, in every column
        step = x[:rows].reshape(rows, 8, 64).abs().amax(-1).repeat_interleave(64, 1).double() / 127
        bound = 0.51 * step @ q.decode().double().abs().T + 1e-4
        assert bool(((got - want).abs() <= bound).all())


def test_zero_rows_zero_inputs_and_bias(isa: str):
    weight = torch.randn(40, 128, generator=torch.Generator().manual_seed(4))
    weight[3], weight[39] = 0, 0
    bias = torch.randn(40, generator=torch.Generator().manual_seed(5))
    for name in ("int4-g64", "int3-sym-g64", "nvfp4", "mxfp4", "ternary-g64"):
        packed = packed_of(formats.quantize(weight, formats.get(name)))
        for rows in (1, 10):
            x = torch.randn(rows, 128, generator=torch.Generator().manual_seed(6))
            found = linear(packed, x)
            assert bool((found[:, [3, 39]].abs() < 1e-30).all())
            assert torch.equal(linear(packed, x, bias=bias), found + bias)
            assert torch.equal(linear(packed, torch.zeros(rows, 128)), torch.zeros(rows, 40))


@pytest.mark.parametrize("name", ["int4-g64", "int2-g32", "nvfp4", "mxfp4"])
def test_scales_at_the_subnormal_edge(name: str, isa: str):
    weight = torch.randn(32, 128, generator=torch.Generator().manual_seed(7))
    tiny = {"int4-g64": 4e-7, "int2-g32": 1e-6, "nvfp4": 1e-30, "mxfp4": 2e-38}[name]
    weight[:16] *= tiny
    q = formats.quantize(weight, formats.get(name))
    for rows in (1, 9):
        check(q, torch.randn(rows, 128, generator=torch.Generator().manual_seed(8)))


def test_unaligned_memory(isa: str):
    q = random_matrix(formats.get("int4-g64"), 64, 256)
    packed = packed_of(q)
    held = torch.empty(packed.data.numel() + 64, dtype=torch.uint8)
    floats = torch.empty(1 + 3 * 256)
    x = torch.randn(3, 256, generator=torch.Generator().manual_seed(9))
    want = linear(packed, x)
    for shift in (1, 3, 17):
        moved = held[shift : shift + packed.data.numel()]
        moved.copy_(packed.data)
        floats[1:].copy_(x.reshape(-1))
        got = kernels.linear(floats[1:].view(3, 256), moved, packed.row_scale, None, None, packed.spec.numbers, False)
        assert torch.equal(got, want)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("rows", [1, 12])
def test_input_that_is_not_finite_is_refused(bad: float, rows: int, isa: str):
    packed = packed_of(random_matrix(formats.get("int4-g64"), 64, 256))
    x = torch.zeros(rows, 256)
    x[-1, 200] = bad
    for exact in (False, True):
        with pytest.raises(NotFiniteError, match="NaN or infinity"):
            linear(packed, x, exact=exact)


def test_scales_that_are_not_finite_are_refused():
    q = random_matrix(formats.get("int4-g64"), 32, 128)
    arrays = formats.pack(q)
    arrays["scale"][5, 1] = float("inf")
    with pytest.raises(KernelError, match="scale is infinite"):
        kernels.pack(arrays, q.format, q.shape)
    q = random_matrix(formats.get("mxfp4"), 32, 128)
    arrays = formats.pack(q)
    arrays["scale"].view(torch.uint8)[0, 0] = 255
    with pytest.raises(KernelError, match="scale is infinite"):
        kernels.pack(arrays, q.format, q.shape)


def test_shapes_that_do_not_match_are_refused():
    packed = packed_of(random_matrix(formats.get("int4-g64"), 32, 128))
    with pytest.raises(KernelError, match="x has 64 columns, the matrix 32 x 128"):
        linear(packed, torch.zeros(1, 64))
    with pytest.raises(KernelError, match="no such row|do not know"):
        packed.rows(torch.tensor([32]))


@pytest.mark.parametrize("name", FORMATS)
def test_rows_decode_to_the_format_s_own_values(name: str):
    format = formats.get(name)
    q = random_matrix(format, 48, inputs_for(format, 192))
    got, want = packed_of(q).decode(), q.decode()
    assert torch.allclose(got, want, rtol=3e-7, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_any_float_type_and_any_number_of_dimensions(dtype: torch.dtype):
    packed = packed_of(random_matrix(formats.get("int4-g64"), 32, 128))
    x = torch.randn(2, 3, 128, generator=torch.Generator().manual_seed(0)).to(dtype)
    got = linear(packed, x)
    assert got.shape == (2, 3, 32) and got.dtype == dtype
    want = linear(packed, x.float().reshape(6, 128)).to(dtype).reshape(2, 3, 32)
    assert torch.equal(got, want)
    assert linear(packed, x[:0]).shape == (0, 3, 32)


def test_quantize_rounds_to_nearest_and_keeps_the_largest(isa: str):
    from runtime_reference import quantized_input

    x = torch.randn(7, 300, generator=torch.Generator().manual_seed(1)) * torch.logspace(-20, 20, 7).unsqueeze(1)
    q, scale = quantized_input(x)
    padded = torch.nn.functional.pad(x, (0, 20)).reshape(7, 5, 64)
    absmax = padded.abs().amax(-1)
    assert np.array_equal(scale, (absmax / 127).numpy())
    units = (padded.double() / (absmax.double() / 127).unsqueeze(-1)).nan_to_num().numpy()
    assert np.abs(q.reshape(7, 5, 64) - units).max() <= 0.5 + 1e-4
    assert np.abs(q).reshape(7, 5, 64).max(-1).min() == 127
    assert not q[:, 300:].any()

"""A quantized matrix laid out for the kernels, and the products with it."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from netweight import formats
from netweight.errors import KernelError
from netweight.formats import SCALE_BITS, Format
from netweight.runtime.kernels import _library

TILE, BLOCK = 32, 64
INT2, INT3, INT4, INT8, E2M1, E4M3 = range(6)
SCALES = {"none": 0, "fp16": 1, "u8": 2, "u6": 2, "e4m3": 3, "e8m0": 4, "fp32": 5}
CONSTANT, PER_GROUP_CODE, PER_GROUP_HALF, PER_ROW = range(4)
GROUPS = (128, 64, 32, 16)
E4M3_UNIT = 256.0  # the kernels read an E4M3 scale as value / 256
E2M1_UNIT = 0.5  # and an E2M1 code as twice its value


@dataclass(frozen=True)
class Spec:
    """What the kernels must know of a matrix beside its bytes; whole numbers only, so that an operator can carry it."""

    kind: int
    scale: int
    zero: int
    offset: int
    outputs: int
    inputs: int
    group: int
    levels: int = 0  # largest code of activations with a scale per token; 0: 8 bits with a scale per BLOCK columns

    @property
    def numbers(self) -> list[int]:
        return [self.kind, self.scale, self.zero, self.offset, self.outputs, self.inputs, self.group, self.levels]


def unsupported(format: Format) -> str | None:
    """Why the kernels have no path for this format; None when they have."""
    element = {"int": None, "ternary": None, "e2m1": None, "e4m3": None}
    if format.element not in element:
        return f"{format.name}: no kernel for {format.element} codes"
    if format.group > 0 and format.group % GROUPS[-1]:
        return f"{format.name}: kernels need groups that are a multiple of {GROUPS[-1]}"
    if format.element in ("e2m1", "e4m3") and format.zero != "none":
        return f"{format.name}: no kernel for small floats with a zero"
    return None


def spec_of(format: Format, shape: tuple[int, int]) -> Spec:
    """How the kernels hold a matrix of this format. Raises: KernelError: they do not."""
    if (why := unsupported(format)) is not None:
        raise KernelError(why)
    whole = format.group <= 0
    group = 0 if whole else next(g for g in GROUPS if format.group % g == 0)
    kinds = {"int": {2: INT2, 3: INT3, 4: INT4}.get(format.bits, INT8), "ternary": INT2, "e2m1": E2M1, "e4m3": E4M3}
    zeros = {"none": CONSTANT, "packed": PER_GROUP_CODE, "fp16": PER_GROUP_HALF}
    offset = {"int": 2 ** (format.bits - 1), "ternary": 1}.get(format.element, 0) if format.zero == "none" else 0
    zero = PER_ROW if whole and format.zero != "none" else zeros[format.zero]
    return Spec(
        kinds[format.element], SCALES["none" if whole else format.scale], zero, offset, shape[0], shape[1], group
    )


@dataclass(frozen=True, eq=False)
class PackedMatrix:
    """An (O, I) matrix in tiles of 32 rows.

    ``data``: uint8, what the kernels stream. ``row_scale``: float32, one per row of every tile, and ``row_zero`` where
    the zero belongs to the row. All three live as long as this object and never change.
    """

    spec: Spec
    data: Tensor
    row_scale: Tensor
    row_zero: Tensor | None
    format: str = ""

    @property
    def shape(self) -> tuple[int, int]:
        return self.spec.outputs, self.spec.inputs

    @property
    def nbytes(self) -> int:
        return self.data.nbytes + self.row_scale.nbytes + (0 if self.row_zero is None else self.row_zero.nbytes)

    @cached_property
    def pointer(self):
        """What the library takes."""
        return ctypes.pointer(c_matrix(self.spec, self.data, self.row_scale, self.row_zero))

    def reading(self, activations: str) -> PackedMatrix:
        """The same matrix for inputs that are rounded to this format of activations first; "" changes nothing."""
        if not activations:
            return self
        return replace(self, spec=replace(self.spec, levels=formats.activations(activations).levels))

    def to(self, device: torch.device) -> PackedMatrix:
        """The same matrix on a device. Asked twice for one device it gives one copy: a tied weight stays one in memory."""
        if device == self.data.device:
            return self
        if self._moved.get("device") != device:
            zero = None if self.row_zero is None else self.row_zero.to(device)
            moved = replace(self, data=self.data.to(device), row_scale=self.row_scale.to(device), row_zero=zero)
            self._moved.update(device=device, matrix=moved)
        return self._moved["matrix"]

    @cached_property
    def _moved(self) -> dict[str, Any]:
        return {}

    def rows(self, index_N: Tensor) -> Tensor:
        """(N, I) float32: these rows, decoded. Raises: KernelError: no such row."""
        if self.data.device.type == "cuda":
            return gpu().rows(index_N, self.data, self.row_scale, self.row_zero, self.spec)
        index_N = index_N.to(torch.int64).contiguous()
        out = torch.empty(len(index_N), self.spec.inputs)
        status = _library.library().nw_rows(
            self.pointer, index_N.data_ptr(), len(index_N), out.data_ptr(), self.spec.inputs
        )
        _library.checked(status, f"rows of a {self.spec.outputs} x {self.spec.inputs} matrix")
        return out

    def decode(self) -> Tensor:
        """(O, I) float32."""
        return self.rows(torch.arange(self.spec.outputs, device=self.data.device))


def gpu() -> ModuleType:
    """The kernels for CUDA GPUs. Raises: KernelError: Triton is not installed."""
    try:
        from netweight.runtime.kernels import _triton
    except ImportError as error:
        raise KernelError(f"the kernels for CUDA GPUs need Triton: pip install triton ({error})") from error
    return _triton


def c_matrix(spec: Spec, data: Tensor, row_scale: Tensor, row_zero: Tensor | None) -> _library.Matrix:
    """What the library takes. Raises: KernelError: the tensors are not those of such a matrix, as after a cast or a move."""
    zero = None if row_zero is None else row_zero.data_ptr()
    matrix = _library.Matrix(*spec.numbers, data.data_ptr(), row_scale.data_ptr(), zero)
    rows = -(-spec.outputs // TILE) * TILE
    parts = [(data, torch.uint8, _library.library().nw_packed_bytes(matrix)), (row_scale, torch.float32, rows)]
    parts += [] if row_zero is None else [(row_zero, torch.float32, rows)]
    for tensor, dtype, count in parts:
        if (
            tensor.dtype != dtype
            or tensor.numel() != count
            or tensor.device.type != "cpu"
            or not tensor.is_contiguous()
        ):
            raise KernelError(
                f"a packed {spec.outputs} x {spec.inputs} matrix needs {count} values of {dtype} on the CPU, "
                f"got {tensor.numel()} of {tensor.dtype} on {tensor.device}"
            )
    if (spec.zero == PER_ROW) != (row_zero is not None):
        raise KernelError(
            f"a packed {spec.outputs} x {spec.inputs} matrix has a zero of each row, or none, as its spec says"
        )
    return matrix


def pack(arrays: Mapping[str, Tensor], format: Format, shape: tuple[int, int]) -> PackedMatrix:
    """Lay out a matrix from the tensors that ``formats.pack`` gives. One pass over the codes, on all threads.

    Raises:
      KernelError: the kernels do not know the format, or a scale or code is NaN or infinite.
      FormatError: a tensor is missing or misshapen.
    """
    spec = spec_of(format, shape)
    formats.check_stored(arrays, format, shape)
    outputs, padded = shape[0], -(-shape[0] // TILE) * TILE
    codes, scale = arrays["codes"].contiguous(), _scale(arrays, format, shape).contiguous()
    zero = _zero(arrays, format, shape)
    row_scale, row_zero = torch.zeros(padded), None
    row_scale[:outputs] = _row_scale(arrays, format, outputs)
    if spec.zero == PER_ROW and zero is not None:
        row_zero = torch.zeros(padded)
        row_zero[:outputs] = zero.float().reshape(-1)
    matrix = _library.Matrix(*spec.numbers, None, row_scale.data_ptr(), None)
    library = _library.library()
    size = library.nw_packed_bytes(matrix)
    _library.checked(size, f"{format.name} {shape}")
    data = torch.empty(size, dtype=torch.uint8)
    stored = _library.Stored(
        codes.data_ptr(),
        codes.shape[1],
        0 if format.element == "ternary" else format.bits,
        max(format.group, 0),
        format.rows,
        0 if spec.group == 0 else scale.shape[1],
        None if spec.group == 0 else scale.data_ptr(),
        None if spec.group == 0 or zero is None else zero.data_ptr(),
    )
    _library.checked(library.nw_pack(matrix, stored, data.data_ptr()), f"{format.name} {shape}")
    return PackedMatrix(spec, data, row_scale, row_zero, format.name)


def _scale(arrays: Mapping[str, Tensor], format: Format, shape: tuple[int, int]) -> Tensor:
    if format.two_level:
        return formats.scale_codes(arrays, format, shape)
    scale = arrays["scale"]
    return scale.view(torch.uint8) if scale.dtype == torch.float8_e4m3fn else scale


def _zero(arrays: Mapping[str, Tensor], format: Format, shape: tuple[int, int]) -> Tensor | None:
    """(R, G): uint8 codes or float16."""
    if format.zero == "none":
        return None
    if format.zero == "fp16":
        return arrays["zero"].contiguous()
    rows, _ = format.grid(shape)
    return formats.unpack_bits(arrays["zero"].T.contiguous(), format.bits, rows).T.contiguous()


def _row_scale(arrays: Mapping[str, Tensor], format: Format, outputs: int) -> Tensor:
    """What multiplies a whole row: units of the kernels' codes and scales, a tensor's scale, or a row's."""
    unit = E2M1_UNIT if format.element == "e2m1" else 1.0
    if format.scale == "e4m3":
        unit *= E4M3_UNIT
    if format.tensor_scale:
        unit = unit / arrays["tensor_scale"].reshape(()).float()
    if (rows := formats.row_scale(arrays, format)) is not None:
        return rows.reshape(-1) * 2.0 ** -SCALE_BITS[format.scale]
    if format.group > 0:
        return torch.full((outputs,), float(unit))
    scale = arrays["scale"].float().reshape(-1)
    if not bool(torch.isfinite(scale).all()):
        raise KernelError(f"{format.name}: a scale is NaN or infinite")
    return scale.expand(outputs) * unit

"""Codes and scales as the bytes that are stored, and back. Exact.

Codes of a row form one bit stream, least significant bit first, padded to whole bytes (integers: to whole 32-bit words, the
layout of compressed-tensors' ``pack-quantized``). Ternary codes are base-3 digits, five to a byte, least significant first.
Packed zeros run down the rows of each group in the same bit stream.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import pad

from netweight.errors import FormatError
from netweight.formats import _minifloat
from netweight.formats._format import SCALE_BITS, Format
from netweight.formats._qtensor import Params, QTensor, in_units

DIGITS_PER_BYTE = 5


def pack(q: QTensor) -> dict[str, Tensor]:
    """Stored tensors of a quantized matrix.

    Returns:
      ``codes`` (O, bytes) uint8; ``scale`` (R, G) float16, float32, or uint8 codes of E8M0 or E4M3;
      ``zero`` (bytes, G) uint8 or (R, G) float16; ``tensor_scale`` (1,) float32; absent parts are left out. Two-level:
      ``scale`` (R, bytes) uint8 is a bit stream of whole numbers, ``row_scale`` (R, 1) float16.
    """
    format = q.format
    arrays = {"codes": _pack_rows(q.codes_OI, format), "scale": _store_scale(q.params, format)}
    if format.zero == "packed" and q.zero is not None:
        arrays["zero"] = pack_bits(q.zero.to(torch.uint8).T.contiguous(), format.bits, word=32).T.contiguous()
    elif format.zero == "fp16" and q.zero is not None:
        arrays["zero"] = q.zero.to(torch.float16)
    if q.tensor_scale is not None:
        arrays["tensor_scale"] = q.tensor_scale.reshape(1).to(torch.float32)
    if q.params.row_scale_R1 is not None:
        arrays["row_scale"] = q.params.row_scale_R1.to(torch.float16)
    return arrays


def check_stored(arrays: Mapping[str, Tensor], format: Format, shape: tuple[int, int]) -> None:
    """Are these the tensors ``pack`` gives for a matrix of this format and shape?

    Raises:
      FormatError: a part is missing or has the wrong shape for this format.
    """
    outputs, inputs = shape
    rows, groups = format.grid(shape)
    expected: dict[str, tuple[int, ...]] = {
        "codes": (outputs, format.packed_row_bytes(inputs)),
        "scale": (rows, groups),
    }
    if format.two_level:
        expected |= {"scale": (rows, format.scale_row_bytes(groups)), "row_scale": (rows, 1)}
    if format.zero == "packed":
        expected["zero"] = (-(-rows * format.bits // 32) * 4, groups)
    elif format.zero == "fp16":
        expected["zero"] = (rows, groups)
    if format.tensor_scale:
        expected["tensor_scale"] = (1,)
    for key, want in expected.items():
        if key not in arrays:
            raise FormatError(f"{format.name}: {key} of a {outputs} x {inputs} matrix is missing")
        if tuple(arrays[key].shape) != want:
            got = tuple(arrays[key].shape)
            raise FormatError(f"{format.name}: {key} of a {outputs} x {inputs} matrix must be {want}, got {got}")


def unpack(arrays: Mapping[str, Tensor], format: Format, shape: tuple[int, int]) -> QTensor:
    """The quantized matrix ``pack`` was given.

    Raises:
      FormatError: a part is missing or has the wrong shape for this format.
    """
    check_stored(arrays, format, shape)
    inputs, zero = shape[1], None
    rows, _ = format.grid(shape)
    if format.zero == "packed":
        zero = unpack_bits(arrays["zero"].T.contiguous(), format.bits, rows).T.float().contiguous()
    elif format.zero == "fp16":
        zero = arrays["zero"].float()
    tensor_scale = arrays["tensor_scale"].reshape(()).float() if format.tensor_scale else None
    params = Params(_load_scale(arrays, format, shape), zero, tensor_scale, row_scale(arrays, format))
    return QTensor(_unpack_rows(arrays["codes"], format, inputs), params, format)


def pack_bits(codes_NK: Tensor, bits: int, *, word: int = 8) -> Tensor:
    """(N, bytes) uint8: each row's codes as a bit stream, least significant bit first, padded to ``word`` bits."""
    rows, count = codes_NK.shape
    total = -(-count * bits // word) * word
    if bits == 8 and total == 8 * count:
        return codes_NK.contiguous()
    if bits == 4:
        even = pad(codes_NK, (0, total // 4 - count))
        return even[:, 0::2] | (even[:, 1::2] << 4)
    places = torch.arange(bits, dtype=torch.uint8, device=codes_NK.device)
    stream = (codes_NK.unsqueeze(-1) >> places & 1).reshape(rows, count * bits)
    stream = pad(stream, (0, total - count * bits)).reshape(rows, total // 8, 8)
    weights = 1 << torch.arange(8, dtype=torch.uint8, device=codes_NK.device)
    return (stream * weights).sum(-1, dtype=torch.uint8)


def unpack_bits(packed_NB: Tensor, bits: int, count: int) -> Tensor:
    """(N, count) uint8 codes from a bit stream of ``pack_bits``."""
    if bits == 8:
        return packed_NB[:, :count].contiguous()
    if bits == 4:
        return torch.stack((packed_NB & 15, packed_NB >> 4), -1).flatten(1)[:, :count].contiguous()
    shifts = torch.arange(8, dtype=torch.uint8, device=packed_NB.device)
    stream = (packed_NB.unsqueeze(-1) >> shifts & 1).flatten(1)[:, : count * bits]
    weights = 1 << torch.arange(bits, dtype=torch.uint8, device=packed_NB.device)
    return (stream.reshape(len(packed_NB), count, bits) * weights).sum(-1, dtype=torch.uint8)


def _pack_rows(codes_OI: Tensor, format: Format) -> Tensor:
    if format.element != "ternary":
        return pack_bits(codes_OI, format.bits, word=32 if format.element == "int" else 8)
    short = -codes_OI.shape[1] % DIGITS_PER_BYTE
    digits = pad(codes_OI, (0, short)).unflatten(1, (-1, DIGITS_PER_BYTE)).to(torch.int32)
    return (digits * _powers_of_three(codes_OI.device)).sum(-1).to(torch.uint8)


def _unpack_rows(packed: Tensor, format: Format, inputs: int) -> Tensor:
    if format.element != "ternary":
        return unpack_bits(packed, format.bits, inputs)
    digits = packed.to(torch.int32).unsqueeze(-1) // _powers_of_three(packed.device) % 3
    return digits.flatten(1)[:, :inputs].to(torch.uint8).contiguous()


def _powers_of_three(device: torch.device) -> Tensor:
    return torch.tensor([1, 3, 9, 27, 81], dtype=torch.int32, device=device)


def row_scale(arrays: Mapping[str, Tensor], format: Format) -> Tensor | None:
    """(R, 1) float32 scale of each row of a two-level format."""
    return arrays["row_scale"].float() if format.two_level else None


def scale_codes(arrays: Mapping[str, Tensor], format: Format, shape: tuple[int, int]) -> Tensor:
    """(R, G) uint8: the whole numbers of a two-level format."""
    return unpack_bits(arrays["scale"], SCALE_BITS[format.scale], format.grid(shape)[1])


def _store_scale(params: Params, format: Format) -> Tensor:
    if format.scale == "fp16":
        return params.scale_RG.to(torch.float16)
    if format.scale == "fp32":
        return params.scale_RG.to(torch.float32)
    if params.row_scale_R1 is not None:
        bits = SCALE_BITS[format.scale]
        codes = in_units(params.scale_RG, params.row_scale_R1) * 2**bits
        return pack_bits(codes.round().to(torch.uint8), bits)
    return _minifloat.cast(params.scale_RG, format.scale, overflow="raise")


def _load_scale(arrays: Mapping[str, Tensor], format: Format, shape: tuple[int, int]) -> Tensor:
    stored = arrays["scale"]
    if (top := row_scale(arrays, format)) is not None:
        return scale_codes(arrays, format, shape).float() * 2.0 ** -SCALE_BITS[format.scale] * top
    return _minifloat.uncast(stored, format.scale) if stored.dtype == torch.uint8 else stored.float()

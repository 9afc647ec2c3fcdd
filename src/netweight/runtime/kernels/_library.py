"""What the kernels call in the compiled library: its structures and signatures. ``netweight.native`` finds and opens it."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_float, c_int, c_int32, c_int64, c_uint64, c_void_p
from functools import cache

from netweight import native
from netweight.native import checked, describe, isa, levels, missing, set_isa, set_threads, threads

__all__ = ["checked", "describe", "isa", "levels", "library", "missing", "set_isa", "set_threads", "threads"]


class Matrix(ctypes.Structure):
    """``nw_matrix``."""

    _fields_ = (
        *((name, c_int32) for name in ("kind", "scale", "zero", "offset", "n", "k", "group", "levels")),
        *((name, c_void_p) for name in ("data", "row_scale", "row_zero")),
    )


class Stored(ctypes.Structure):
    """``nw_stored``."""

    _fields_ = (
        ("codes", c_void_p),
        ("row_bytes", c_int64),
        *((name, c_int32) for name in ("bits", "group", "rows")),
        ("scale_stride", c_int64),
        ("scales", c_void_p),
        ("zeros", c_void_p),
    )


class Conv(ctypes.Structure):
    """``nw_conv``."""

    _fields_ = (
        *((name, c_int32) for name in ("batch", "channels", "height", "width", "kernel_h", "kernel_w")),
        *((name, c_int32) for name in ("stride_h", "stride_w", "pad_h", "pad_w", "dilation_h", "dilation_w")),
        *((name, c_int64) for name in ("x_batch_stride", "y_batch_stride")),
    )


class Layer(ctypes.Structure):
    """``nw_layer``."""

    _fields_ = (
        ("packed", POINTER(Matrix)),
        ("plain", c_void_p),
        *((name, c_int32) for name in ("plain_type", "n", "k")),
        ("bias", c_void_p),
    )


class Block(ctypes.Structure):
    """``nw_decoder_block``."""

    _fields_ = (
        *((name, c_void_p) for name in ("attention_norm", "attention_norm_bias", "mlp_norm", "mlp_norm_bias")),
        *((name, Layer) for name in ("q", "k", "v", "o", "gate", "up", "down")),
    )


class Decoder(ctypes.Structure):
    """``nw_decoder``."""

    _fields_ = (
        *((name, c_int32) for name in ("hidden", "blocks", "heads", "kv_heads", "head_dim", "vocab", "longest")),
        *((name, c_int32) for name in ("norm", "activation", "exact")),
        *((name, c_float) for name in ("norm_eps", "attention_scale")),
        *((name, c_void_p) for name in ("rotary_cos", "rotary_sin", "positions", "final_norm", "final_norm_bias")),
        *((name, Layer) for name in ("embedding", "head")),
        ("block", POINTER(Block)),
    )


SIGNATURES: native.Signatures = {
    "nw_read": (c_int64, (c_void_p, c_int64, c_int)),
    "nw_multiply": (c_int64, (c_int64,)),
    "nw_packed_bytes": (c_int64, (POINTER(Matrix),)),
    "nw_pack": (c_int, (POINTER(Matrix), POINTER(Stored), c_void_p)),
    "nw_linear": (c_int, (POINTER(Matrix), c_void_p, c_int64, c_int64, c_void_p, c_void_p, c_int64, c_int)),
    "nw_rows": (c_int, (POINTER(Matrix), c_void_p, c_int64, c_void_p, c_int64)),
    "nw_quantize": (c_int, (c_void_p, c_int64, c_int64, c_int64, c_void_p, c_void_p)),
    "nw_conv2d": (c_int, (POINTER(Matrix), POINTER(Conv), c_void_p, c_void_p, c_void_p, c_int)),
    "nw_session_new": (c_void_p, (POINTER(Decoder), c_int64)),
    "nw_session_free": (None, (c_void_p,)),
    "nw_session_length": (c_int64, (c_void_p,)),
    "nw_session_cut": (c_int, (c_void_p, c_int64)),
    "nw_session_bytes": (c_int64, (c_void_p,)),
    "nw_decode": (c_int, (POINTER(Decoder), POINTER(c_void_p), POINTER(c_int32), c_int32, c_void_p, c_void_p, c_int)),
    "nw_sample": (c_int32, (c_void_p, c_int32, c_float, c_uint64, c_uint64)),
}


@cache
def library() -> ctypes.CDLL:
    """The library with the kernels declared. Raises: as ``native.library``."""
    return native.declare(native.library(), SIGNATURES)

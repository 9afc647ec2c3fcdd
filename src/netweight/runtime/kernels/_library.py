"""The compiled library: found beside this package, declared, and asked what it can do.

Built at install time, never at import. ``NETWEIGHT_ISA`` names the instruction set to use, one of ``levels()``.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
from collections.abc import Sequence
from ctypes import POINTER, c_char_p, c_float, c_int, c_int32, c_int64, c_uint64, c_void_p
from functools import cache

import torch

from netweight.errors import KernelError, NotFiniteError, SettingsError, nearest

ABI = 2
MODULE = "netweight.runtime.kernels._native"
ISA_VARIABLE = "NETWEIGHT_ISA"
BUILD = "install a C++17 compiler, then `pip install -c constraints.txt --force-reinstall --no-deps -e .`"


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


SIGNATURES: dict[str, tuple[object, Sequence[object]]] = {
    "nw_abi": (c_int, ()),
    "nw_isa": (c_char_p, ()),
    "nw_isa_levels": (c_char_p, ()),
    "nw_set_isa": (c_int, (c_char_p,)),
    "nw_set_threads": (None, (c_int,)),
    "nw_threads": (c_int, ()),
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
    """The library, declared, with the instruction set that ``NETWEIGHT_ISA`` asks for and as many threads as torch has.

    Raises:
      KernelError: it was not built, or belongs to another version. SettingsError: no such instruction set here.
    """
    found = importlib.util.find_spec(MODULE)
    if found is None or not found.origin:
        raise KernelError(f"this installation has no compiled kernels; {BUILD}")
    try:
        loaded = ctypes.CDLL(found.origin)
    except OSError as error:
        raise KernelError(f"cannot load {found.origin}: {error}; {BUILD}") from error
    for name, (result, arguments) in SIGNATURES.items():
        function = getattr(loaded, name, None)
        if function is None:
            raise KernelError(f"{found.origin} has no {name}: it belongs to another version; {BUILD}")
        function.restype, function.argtypes = result, arguments
    if loaded.nw_abi() != ABI:
        raise KernelError(f"{found.origin} speaks version {loaded.nw_abi()} of the interface, not {ABI}; {BUILD}")
    if asked := os.environ.get(ISA_VARIABLE):
        _set_isa(loaded, asked)
    loaded.nw_set_threads(torch.get_num_threads())
    return loaded


def missing() -> str | None:
    """Why there are no compiled kernels here; None when there are."""
    try:
        library()
    except KernelError as error:
        return str(error)
    return None


def levels() -> tuple[str, ...]:
    """Instruction sets that this build has and this CPU can run, best first."""
    return tuple(library().nw_isa_levels().decode().split())


def isa() -> str:
    """The instruction set in use."""
    return library().nw_isa().decode()


def set_isa(name: str) -> None:
    """Use this instruction set from now on. Raises: SettingsError: not one of ``levels()``."""
    _set_isa(library(), name)


def _set_isa(loaded: ctypes.CDLL, name: str) -> None:
    if loaded.nw_set_isa(name.encode()) != 0:
        known = loaded.nw_isa_levels().decode().split()
        raise SettingsError(
            f"{ISA_VARIABLE} {name!r}: this build on this CPU has {', '.join(known)}{nearest(name, known)}"
        )


def threads() -> int:
    return library().nw_threads()


def set_threads(count: int) -> None:
    """How many threads share one call, the caller's included. Raises: SettingsError: less than one."""
    if count < 1:
        raise SettingsError(f"threads = {count}: must be at least 1")
    library().nw_set_threads(count)


def describe() -> str:
    """One line: the instruction set and the threads, or why there are none."""
    if (why := missing()) is not None:
        return f"no compiled kernels: {why}"
    return f"{isa()} kernels, {threads()} threads (this machine also has: {', '.join(levels()[1:])})"


MESSAGES = {
    -1: (KernelError, "a matrix or a request the kernels do not know"),
    -2: (KernelError, "a scale is infinite, not a number, or negative where it must not be"),
    -3: (KernelError, "a code stands for NaN"),
    -4: (MemoryError, "not enough memory"),
    -5: (NotFiniteError, "the input holds NaN or infinity"),
}


def checked(status: int, what: str) -> None:
    """Raises what a status means, with ``what`` went wrong in front."""
    if status < 0:
        kind, meaning = MESSAGES.get(status, (KernelError, f"status {status}"))
        raise kind(f"{what}: {meaning}")

"""Low-bit kernels: a compiled library without torch in it, the layout it reads, and the operators made of it."""

from netweight.runtime.kernels._library import (
    describe,
    isa,
    levels,
    library,
    missing,
    set_isa,
    set_threads,
    threads,
)
from netweight.runtime.kernels._matrix import PackedMatrix, Spec, gpu, pack, spec_of, unsupported
from netweight.runtime.kernels._ops import conv2d, linear

__all__ = [
    "PackedMatrix",
    "Spec",
    "conv2d",
    "describe",
    "gpu",
    "isa",
    "levels",
    "library",
    "linear",
    "missing",
    "pack",
    "set_isa",
    "set_threads",
    "spec_of",
    "threads",
    "unsupported",
]

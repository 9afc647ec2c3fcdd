"""Compiles the GPU's kernels for one format and one architecture: python compile_triton.py FORMAT ARCHITECTURE. Needs no GPU."""

import sys

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from netweight import formats
from netweight.runtime import kernels
from netweight.runtime.kernels import _triton

POINTERS = {"words": "*i32", "bytes_": "*u8", "halves": "*fp16", "floats": "*fp32", "index": "*i64"}
FLOATS = ("row_scale", "row_zero")


def compiled(kernel, x: str, y: str, architecture: int, **constants) -> int:
    """Bytes of machine code."""
    types = POINTERS | dict.fromkeys(FLOATS, "*fp32") | dict.fromkeys(("x", "bias"), x) | {"y": y}
    types |= dict.fromkeys(constants, "constexpr")
    signature = {name: types.get(name, "i32") for name in kernel.arg_names}
    values = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
    made = triton.compile(ASTSource(kernel, signature, values), target=GPUTarget("cuda", architecture, 32))
    assert made.metadata.shared <= 96 * 1024  # what a block may have on GPUs for desktops too, whose limit is 99 KB
    return len(made.asm["cubin"])


def main(name: str, architecture: int) -> None:
    q = formats.quantize(torch.ones(32, 128), formats.get(name))
    layout = _triton._Shape(kernels.pack(formats.pack(q), q.format, q.shape).spec).layout
    sizes = [compiled(_triton._few, "*bf16", "*fp32", architecture, ROWS=1, LAYOUT=layout)]
    many = {"ROWS": 64, "COLUMNS": _triton.WIDE, "LAYOUT": layout}
    sizes += [compiled(_triton._many, x, x, architecture, BIAS=x == "*fp32", **many) for x in ("*bf16", "*fp32")]
    sizes += [compiled(_triton._rows, "*fp32", "*fp32", architecture, LAYOUT=layout)]
    print(*sizes)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))

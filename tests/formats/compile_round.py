"""Compiles the GPU's kernels of ``round_blocks`` for one architecture: python compile_round.py ARCHITECTURE. Needs no GPU."""

import itertools
import sys

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from netweight import formats
from netweight.formats import _round, _round_kernels, _round_triton

POINTERS = dict.fromkeys(("x", "y", "largest", "levels"), "*fp32")
TYPES = POINTERS | {"low": "u32", "high": "u32", "ratio": "fp32", "widen": "fp32", "sizes": ("i32",) * 7}


def compiled(kernel, architecture: int, **constants) -> str:
    """The machine's own text."""
    signature = {name: TYPES.get(name, "i32") for name in kernel.arg_names} | dict.fromkeys(constants, "constexpr")
    values = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
    source = ASTSource(kernel, signature, values)
    return triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=_round_triton.OPTIONS).asm["ptx"]


def main(architecture: int) -> None:
    plain, turned = None, formats.TRANSFORMER_ENGINE_SIGNS
    cases = [("nvfp4", plain, "amax"), ("nvfp4", turned, "four-over-six"), ("nvfp4-2d", plain, "four-over-six")]
    for (name, signs, rule), drawn in itertools.product([*cases, ("mxfp4", turned, "amax")], (False, True)):
        request = _round.requested(name, rule, signs)
        fixed = _round_triton.fixed(request)
        text = compiled(
            _round_kernels.rounded, architecture, STOCHASTIC=drawn, **_round_triton.rule_of(request), **fixed
        )
        assert "fma.rn.f32" not in text, "a product was fused with a sum"
        assert ".ftz" not in text, "small numbers would become zero"
        assert "div.full" not in text and "div.approx" not in text, "a quotient is not rounded as IEEE 754 has it"
        if signs:
            compiled(_round_kernels.measure, architecture, **fixed)
        print(name, rule, drawn, len(text))


if __name__ == "__main__":
    main(int(sys.argv[1]))

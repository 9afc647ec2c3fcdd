"""Another GGUF file out of one, for speed alone: ``python quantize_gguf.py FROM.gguf TO.gguf q4_0``, with llama-cpp-python.

What was quantized is quantized again, head and embedding in the same type where llama.cpp would choose another.
"""

from __future__ import annotations

import sys

import llama_cpp

# llama_ftype and ggml_type by name
KINDS = {"q4_0": (2, 2), "q4_1": (3, 3), "q8_0": (7, 8), "q2_K": (10, 10), "q3_K": (11, 11), "q4_K": (14, 12)}


def main() -> None:
    source, target, name = sys.argv[1:]
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, kind = KINDS[name]
    params.allow_requantize, params.pure, params.nthread = True, True, 2
    params.token_embedding_type = params.output_tensor_type = kind
    if llama_cpp.llama_model_quantize(source.encode(), target.encode(), params):
        raise SystemExit(f"{source} could not be quantized to {name}")


if __name__ == "__main__":
    main()

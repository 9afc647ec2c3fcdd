"""llama.cpp's own mixtures of types (Q2_K, Q3_K_M, ...) from a GGUF file, as its tool makes them, through its C interface.

    python kquants.py --library DIR --gguf FROM.gguf --kind Q2_K --out TO.gguf

DIR holds libllama.so and libggml*.so, such as those of ``npm pack @node-llama-cpp/linux-x64``. Without an importance matrix. Rows
whose length 256 does not divide fall back to types of 4 and 5 bits: how many bytes that makes is printed.
"""

from __future__ import annotations

import argparse
import ctypes
import json
from pathlib import Path

KINDS = {"Q2_K": 10, "Q3_K_S": 11, "Q3_K_M": 12}  # llama_ftype


class Params(ctypes.Structure):
    """llama_model_quantize_params, its first fields and room for the rest."""

    _fields_ = [
        ("nthread", ctypes.c_int32),
        ("ftype", ctypes.c_int),
        ("output_tensor_type", ctypes.c_int),
        ("token_embedding_type", ctypes.c_int),
        ("allow_requantize", ctypes.c_bool),
        ("rest", ctypes.c_uint8 * 111),
    ]


def library(folder: Path) -> ctypes.CDLL:
    """libllama with what it needs, loaded in order."""
    for pattern in ("libggml-base.so*", "libggml-cpu-x64.so*", "libggml.*so*"):
        for path in sorted(folder.glob(pattern)):
            ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
    found = ctypes.CDLL(str(next(path for path in sorted(folder.glob("libllama.*so*")))))
    found.llama_model_quantize_default_params.restype = Params
    found.llama_model_quantize.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.POINTER(Params)]
    found.llama_model_quantize.restype = ctypes.c_uint32
    return found


def quantize(folder: Path, source: Path, kind: str, out: Path) -> None:
    """Raises: SystemExit: the library refuses."""
    llama = library(folder)
    llama.llama_backend_init()
    params = llama.llama_model_quantize_default_params()
    params.ftype, params.allow_requantize, params.nthread = KINDS[kind], True, 2
    if llama.llama_model_quantize(str(source).encode(), str(out).encode(), ctypes.byref(params)):
        raise SystemExit(f"{source} could not be quantized to {kind}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--library", type=Path, required=True)
    parser.add_argument("--gguf", type=Path, required=True)
    parser.add_argument("--kind", choices=KINDS, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    quantize(given.library, given.gguf, given.kind, given.out)
    print(json.dumps({"kind": given.kind, "bytes": given.out.stat().st_size}))


if __name__ == "__main__":
    main()

"""Use an artifact: load it, generate text, know which path each layer takes."""

from netweight.runtime._decoder import NativeDecoder, Session
from netweight.runtime._generate import check_kind, check_request, decode_path, generate, why_not_native
from netweight.runtime._linear import PackedConv2d, PackedEmbedding, PackedLinear
from netweight.runtime._load import Kernels, Loaded, bytes_in_memory, bytes_per_step, load

__all__ = [
    "Kernels",
    "Loaded",
    "NativeDecoder",
    "PackedConv2d",
    "PackedEmbedding",
    "PackedLinear",
    "Session",
    "bytes_in_memory",
    "bytes_per_step",
    "check_kind",
    "check_request",
    "decode_path",
    "generate",
    "load",
    "why_not_native",
]

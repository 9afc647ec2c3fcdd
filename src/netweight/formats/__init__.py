"""Number formats: rows of data, one implementation, exact to the bit."""

from netweight.formats._format import Format, catalogue, families, get
from netweight.formats._minifloat import cast, uncast
from netweight.formats._packing import pack, unpack
from netweight.formats._qtensor import Params, QTensor, expand
from netweight.formats._quantize import blocks, encode, fake_quantize, fit, quantize

__all__ = [
    "Format",
    "Params",
    "QTensor",
    "blocks",
    "cast",
    "catalogue",
    "encode",
    "expand",
    "fake_quantize",
    "families",
    "fit",
    "get",
    "pack",
    "quantize",
    "uncast",
    "unpack",
]

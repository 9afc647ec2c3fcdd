"""Number formats: rows of data, one implementation, exact to the bit."""

from netweight.formats._activations import Activations, activations
from netweight.formats._format import SCALE_BITS, Format, catalogue, families, get
from netweight.formats._minifloat import cast, uncast
from netweight.formats._packing import check_stored, pack, row_scale, scale_codes, unpack, unpack_bits
from netweight.formats._qtensor import Params, QTensor, expand
from netweight.formats._quantize import blocks, cast_scale, encode, fake_quantize, fit, not_finite, quantize
from netweight.formats._round import TRANSFORMER_ENGINE_SIGNS, Scaling, check_rounding, look_at_blocks, round_blocks

__all__ = [
    "SCALE_BITS",
    "TRANSFORMER_ENGINE_SIGNS",
    "Activations",
    "Format",
    "Params",
    "QTensor",
    "Scaling",
    "activations",
    "blocks",
    "cast",
    "cast_scale",
    "catalogue",
    "check_rounding",
    "check_stored",
    "encode",
    "expand",
    "fake_quantize",
    "families",
    "fit",
    "get",
    "look_at_blocks",
    "not_finite",
    "pack",
    "quantize",
    "round_blocks",
    "row_scale",
    "scale_codes",
    "uncast",
    "unpack",
    "unpack_bits",
]

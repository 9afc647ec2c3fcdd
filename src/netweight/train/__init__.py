"""Training with simulated low-bit products: recipes as rows of data, and layers of any module that follow them."""

from netweight.train._diagnose import Diagnosis, diagnose
from netweight.train._oscillation import OscillationReset
from netweight.train._qat import Operand, Qat, Reset, catalogue, recipe
from netweight.train._quantize import Quantized, Row, handle, quantize

__all__ = [
    "Diagnosis",
    "Operand",
    "OscillationReset",
    "Qat",
    "Quantized",
    "Reset",
    "Row",
    "catalogue",
    "diagnose",
    "handle",
    "quantize",
    "recipe",
]

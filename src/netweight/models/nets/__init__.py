"""Segmentation nets at matched sizes, one file each: ``build("swin", "500k", image=128, seed=0)``.

A file defines ``SUMMARY``, ``SIZES`` (what is built for each budget), ``UNQUANTIZED`` (globs of the layers that stay in full
precision when the net is trained in four bits) and ``make(size, image, channels) -> Net``; where ``make`` takes a ``patch``
(one of ``PATCHES``) or a ``dropout``, so does ``build``. Five of the nets come in three budgets, about 0.5, 3.7 and 13.9 million parameters, as in Du & Rybakov, arXiv 2605.27616.
"""

from netweight.models.nets._attention import MatMul, attention, distinct
from netweight.models.nets._build import build, describe, names, sizes, unquantized
from netweight.models.nets._net import Description, Net

__all__ = [
    "Description",
    "MatMul",
    "Net",
    "attention",
    "build",
    "describe",
    "distinct",
    "names",
    "sizes",
    "unquantized",
]

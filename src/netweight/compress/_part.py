"""The parts a model is compressed in: what comes before the blocks, every block, what comes after; or a whole module at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from netweight import models
from netweight.formats import QTensor
from netweight.ledger import Row
from netweight.models import Model

STEM, TAIL = "stem", "tail"


@dataclass(frozen=True, eq=False)
class Part:
    """A finished part of the model.

    ``tensors`` are the parameters and buffers that stayed as they are (after folding), by full name; ``hidden`` the part's
    outputs, one per calibration batch: the next part's inputs, good until the next part is asked for, with those of the
    original model after them where blocks are trained; ``digest`` the hash of the first; ``layer_digests`` of each decoded weight.
    """

    index: int
    name: str
    qtensors: dict[str, QTensor]
    tensors: dict[str, Tensor]
    rows: tuple[Row, ...]
    hidden: Sequence[Tensor]
    digest: str
    layer_digests: dict[str, str]


def parts(model: Model) -> tuple[str, ...]:
    """Names of the parts in order: stem, blocks, tail; a plain module is one part, or its named blocks and the tail."""
    blocks = models.blocks(model)
    if model.named_blocks:
        return (*blocks, TAIL)
    return blocks if blocks == ("",) else (STEM, *blocks, TAIL)

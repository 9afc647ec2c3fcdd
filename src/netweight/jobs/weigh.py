"""weigh: where a model's bytes are, how they are stored, and what they would be in other formats."""

from __future__ import annotations

import json as json_text
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from netweight.errors import FormatError

if TYPE_CHECKING:
    from torch.nn import Module

    from netweight.formats import Format
    from netweight.models import Layer, Model

OTHER = "norms, biases and the rest"
# Integer types of weight files, by the bits of one code: Q4_1 and IQ4_XS in GGUF, int8 in safetensors.
LOW_BIT = re.compile(r"^I?Q(?P<gguf>\d)_|^U?INT(?P<int>\d)$|^I(?P<safetensors>8)$", re.IGNORECASE)


@dataclass(frozen=True)
class Part:
    """Layers that differ only by their block's number, such as ``model.layers.*.mlp.up_proj``."""

    pattern: str
    kind: str
    count: int
    shape: tuple[int, ...]  # of one layer as a matrix (O, I); () where they differ
    parameters: int
    stored_bytes: int
    stored_as: str
    in_blocks: bool


@dataclass(frozen=True)
class Projection:
    """The whole model's bytes if the layers inside its blocks were in ``format`` and the rest stayed as stored."""

    format: str
    total_bytes: int
    bits_per_weight: float  # of the converted layers, scales included
    layers: int
    misfits: tuple[str, ...]  # layers whose shape the format cannot hold; counted as stored


@dataclass(frozen=True)
class Weighing:
    """What the scale shows."""

    model: str
    parameters: int  # tied weights once
    stored_bytes: int
    parts: tuple[Part, ...]
    ties: tuple[tuple[str, str], ...]  # (layer, the layer whose weight it shares)
    projections: tuple[Projection, ...]
    warnings: tuple[str, ...]

    def to_json(self) -> str:
        return json_text.dumps(asdict(self), indent=2)


@dataclass(frozen=True)
class Weight:
    """One stored tensor."""

    name: str
    parameters: int
    stored_bytes: int
    stored_as: str


def weigh(
    model: str | Path | Model | Module,
    *,
    formats: Sequence[str] = ("int4-g64", "int3-g64", "nvfp4"),
    json: bool = False,
) -> Weighing | str:
    """Load what describes the model (no weight is read), and add up its bytes; the JSON text of that with ``json``."""
    from netweight import formats as room
    from netweight import models

    known = [room.get(name) for name in formats]  # a misspelt format is reported before anything is loaded
    loaded = model if isinstance(model, models.Model) else models.load(model)
    weighing = weighing_of(loaded, models.layers(loaded), models.blocks(loaded), known)
    return weighing.to_json() if json else weighing


def weighing_of(model: Model, layers: dict[str, Layer], blocks: Sequence[str], formats: Sequence[Format]) -> Weighing:
    """The weighing of a loaded model.

    Args:
      layers: every linear, conv and embedding, by name.
      blocks: names of the blocks; a layer whose ``block`` is none of them lies outside.
      formats: what to project the size to.
    """
    weights = _weights(model)
    own = {name: layer for name, layer in layers.items() if not layer.tied_to}
    inside = {name: layer for name, layer in own.items() if layer.block in blocks and layer.kind != "embedding"}
    total_bytes = sum(weight.stored_bytes for weight in weights.values())
    return Weighing(
        model=model.name,
        parameters=sum(weight.parameters for weight in weights.values()),
        stored_bytes=total_bytes,
        parts=(*_parts(own, set(inside), weights), *_rest(own, weights)),
        ties=tuple((name, layer.tied_to) for name, layer in layers.items() if layer.tied_to),
        projections=tuple(_projection(format, inside, weights, total_bytes) for format in formats),
        warnings=_warnings(weights[_weight_of(name)] for name in inside),
    )


def _weights(model: Model) -> dict[str, Weight]:
    """Every stored tensor by name, a shared one once. Those that are not trained (running means) count bytes only."""
    trained = {name for name, _ in model.module.named_parameters(remove_duplicate=False)}
    stored = model.weights
    return {
        name: Weight(name, prod(stored.shape(name)) * (name in trained), stored.nbytes(name), stored.stored_as(name))
        for name in stored.names()
        if name not in model.tied
    }


def _weight_of(layer_name: str) -> str:
    return f"{layer_name}.weight" if layer_name else "weight"


def _pattern(name: str) -> str:
    return ".".join("*" if part.isdigit() else part for part in name.split("."))


def _parts(layers: dict[str, Layer], inside: set[str], weights: dict[str, Weight]) -> list[Part]:
    groups: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for name, layer in layers.items():
        groups[_pattern(name), layer.kind, weights[_weight_of(name)].stored_as].append(name)
    parts = []
    for (pattern, kind, stored_as), names in groups.items():
        shapes = {tuple(layers[name].shape) for name in names}
        held = [weights[_weight_of(name)] for name in names]
        parts.append(
            Part(
                pattern=pattern if len(names) > 1 else names[0],
                kind=kind,
                count=len(names),
                shape=shapes.pop() if len(shapes) == 1 else (),
                parameters=sum(weight.parameters for weight in held),
                stored_bytes=sum(weight.stored_bytes for weight in held),
                stored_as=stored_as,
                in_blocks=names[0] in inside,
            )
        )
    return parts


def _rest(layers: dict[str, Layer], weights: dict[str, Weight]) -> list[Part]:
    """Tensors that are no layer's weight, as one part per way of storing them."""
    taken = {_weight_of(name) for name in layers}
    groups: dict[str, list[Weight]] = defaultdict(list)
    for name, weight in weights.items():
        if name not in taken:
            groups[weight.stored_as].append(weight)
    return [
        Part(
            pattern=OTHER,
            kind="",
            count=len(held),
            shape=(),
            parameters=sum(weight.parameters for weight in held),
            stored_bytes=sum(weight.stored_bytes for weight in held),
            stored_as=stored_as,
            in_blocks=False,
        )
        for stored_as, held in groups.items()
    ]


def _projection(format: Format, layers: dict[str, Layer], weights: dict[str, Weight], total_bytes: int) -> Projection:
    converted, parameters, misfits = 0, 0, []
    for name, layer in layers.items():
        try:
            converted += format.nbytes(layer.shape)
        except FormatError:  # a group that does not divide the row
            misfits.append(name)
            continue
        parameters += prod(layer.shape)
        total_bytes -= weights[_weight_of(name)].stored_bytes
    bits = 8 * converted / parameters if parameters else 0.0
    return Projection(format.name, total_bytes + converted, bits, len(layers) - len(misfits), tuple(misfits))


def _warnings(weights: Iterable[Weight]) -> tuple[str, ...]:
    """Weights that were rounded before: rounding them again to the same grid costs nothing and proves nothing."""
    counts: dict[str, int] = defaultdict(int)
    for weight in weights:
        counts[weight.stored_as] += 1
    found = []
    for stored_as, count in counts.items():
        match = LOW_BIT.match(stored_as)
        bits = next((int(group) for group in match.groups() if group), None) if match else None
        if bits:
            found.append(
                f"{count} layer{'s' * (count != 1)} of the blocks are stored as {stored_as}: their weights already lie on "
                f"a grid of {bits} bits. Rounding them to a format of {bits} bits whose groups line up with that grid "
                f"gives an error of 0, which says nothing about the method; compare at fewer bits, or in a format with "
                f"another grid, against this model as it is."
            )
    return tuple(found)

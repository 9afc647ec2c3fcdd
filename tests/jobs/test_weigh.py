"""weigh adds up what is stored, and projects what would be."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field

import pytest

from netweight.errors import FormatError
from netweight.jobs import weigh as job


@dataclass(frozen=True)
class FakeLayer:
    name: str
    kind: str
    shape: tuple[int, int]
    block: str | None
    tied_to: str = ""


class FakeWeights:
    """Stored tensors: name -> (shape, bytes, how)."""

    def __init__(self, tensors: dict[str, tuple[tuple[int, ...], int, str]]):
        self._tensors = tensors

    def names(self):
        return tuple(self._tensors)

    def shape(self, name: str):
        return self._tensors[name][0]

    def nbytes(self, name: str):
        return self._tensors[name][1]

    def stored_as(self, name: str):
        return self._tensors[name][2]


class FakeModule:
    def __init__(self, names):
        self._names = names

    def named_parameters(self, remove_duplicate: bool = True):
        return [(name, None) for name in self._names]


@dataclass(frozen=True)
class FakeModel:
    name: str
    module: FakeModule
    weights: FakeWeights
    tied: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class FourBits:
    """Half a byte a weight and two bytes a group of 64."""

    name: str = "int4-sym-g64"

    def nbytes(self, shape: tuple[int, int]) -> int:
        if shape[1] % 64:
            raise FormatError(f"group 64 does not divide {shape[1]} columns")
        return math.prod(shape) // 2 + math.prod(shape) // 64 * 2


# Two blocks of one linear layer 8 x 64 as Q4_1 (20 bytes for 32 weights), an embedding 10 x 64 as Q8_0 whose weight the
# head shares, a norm in float32, and a buffer that nobody trains.
TENSORS = {
    "embed.weight": ((10, 64), 680, "Q8_0"),
    "blocks.0.up.weight": ((8, 64), 320, "Q4_1"),
    "blocks.1.up.weight": ((8, 64), 320, "Q4_1"),
    "norm.weight": ((64,), 256, "F32"),
    "norm.running_mean": ((64,), 256, "F32"),
    "head.weight": ((10, 64), 680, "Q8_0"),
}
LAYERS = {
    "embed": FakeLayer("embed", "embedding", (10, 64), None),
    "blocks.0.up": FakeLayer("blocks.0.up", "linear", (8, 64), "blocks.0"),
    "blocks.1.up": FakeLayer("blocks.1.up", "linear", (8, 64), "blocks.1"),
    "head": FakeLayer("head", "linear", (10, 64), None, tied_to="embed"),
}
MODEL = FakeModel(
    "tiny",
    FakeModule([n for n in TENSORS if "running" not in n]),
    FakeWeights(TENSORS),
    {"head.weight": "embed.weight"},
)


def weighing(layers=LAYERS, tensors=TENSORS) -> job.Weighing:
    model = FakeModel("tiny", MODEL.module, FakeWeights(tensors), MODEL.tied)
    return job.weighing_of(model, layers, ("blocks.0", "blocks.1"), [FourBits()])  # type: ignore[arg-type]


def test_a_shared_weight_is_counted_once_and_said_to_be_shared():
    found = weighing()
    assert found.stored_bytes == 680 + 2 * 320 + 256 + 256
    assert found.parameters == 640 + 2 * 512 + 64  # the running mean takes bytes and is no parameter
    assert found.ties == (("head", "embed"),)


def test_layers_that_differ_only_by_block_are_one_row():
    row = next(part for part in weighing().parts if part.kind == "linear")
    assert (row.pattern, row.count, row.shape, row.stored_bytes) == ("blocks.*.up", 2, (8, 64), 640)
    assert row.in_blocks


def test_the_rows_add_up_to_the_whole():
    found = weighing()
    assert sum(part.stored_bytes for part in found.parts) == found.stored_bytes
    assert sum(part.parameters for part in found.parts) == found.parameters


def test_a_projection_converts_the_blocks_and_keeps_the_rest():
    (projection,) = weighing().projections
    converted = 2 * (256 + 16)
    assert projection.total_bytes == 680 + 256 + 256 + converted
    assert projection.layers == 2
    assert projection.bits_per_weight == pytest.approx(4.25, abs=1e-12)  # exact but for one division


def test_a_layer_that_the_format_cannot_hold_is_named_and_kept():
    layers = LAYERS | {"blocks.1.up": FakeLayer("blocks.1.up", "linear", (8, 63), "blocks.1")}
    (projection,) = weighing(layers).projections
    assert projection.misfits == ("blocks.1.up",)
    assert projection.total_bytes == 680 + 256 + 256 + 320 + (256 + 16)


def test_weights_that_already_lie_on_a_grid_are_warned_about():
    (q4,) = weighing().warnings  # the embedding, stored as Q8_0, is not what recipes round
    assert "2 layers" in q4 and "grid of 4 bits" in q4


@pytest.mark.parametrize("stored_as", ["F32", "F16", "BF16", "F64", "torch.float32", "I64"])
def test_weights_in_floating_point_are_not(stored_as: str):
    tensors = {name: (shape, size, stored_as) for name, (shape, size, _) in TENSORS.items()}
    assert weighing(tensors=tensors).warnings == ()


def test_the_json_text_holds_the_same_numbers():
    found = weighing()
    assert json.loads(found.to_json())["stored_bytes"] == found.stored_bytes

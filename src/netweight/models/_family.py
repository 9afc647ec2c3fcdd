"""A model family described as data: where its blocks are, which layers a norm feeds, how other formats name its tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

from torch import nn

from netweight import registry

ROOM = "netweight.models"


@dataclass(frozen=True)
class Feed:
    """Dividing the source's output channels by s and multiplying the layers' columns by s changes nothing.

    ``source`` is a norm or a linear layer, ``layers`` the linear layers that read it. In a ``Family`` the names are relative
    to the block; ``models.feeds`` gives them from the root of the model.
    """

    source: str
    layers: tuple[str, ...]


@dataclass(frozen=True)
class Residual:
    """The stream that stem and blocks add to, in a family where nothing reads it but RMS norms and what follows them.

    Such a norm divides by the stream's length alone, so any rotation of the stream can be taken into the weights. Names are
    relative to the block: each norm with the layers that read it, and the layers whose outputs are added. The stem's only
    layer writes the stream too, and the head reads it through the family's last norm.
    """

    norms: tuple[Feed, ...]
    writers: tuple[str, ...]


@dataclass(frozen=True)
class Heads:
    """Attention's values and the layer that reads their averages, head by head; names are relative to the block.

    Attention is linear in the values: what is done to each head's channels of ``value`` can be undone in ``output``. Where one
    layer holds query, key and value, the values are the last of ``shares`` equal parts of its outputs.
    """

    value: str
    output: str
    shares: int = 1


@dataclass(frozen=True)
class GGUFTable:
    """How a GGUF file names what a family holds; ``{n}`` stands for the block's number.

    ``config`` keys come after ``"<architecture>."``. Rows of ``interleaved`` layers hold rotary pairs side by side in files
    of an architecture listed in ``interleaved_in``, where transformers keeps the two halves apart.
    """

    model_types: Mapping[str, str]  # general.architecture -> transformers model_type
    config: Mapping[str, str]  # metadata key -> field of the transformers config
    required: tuple[str, ...]  # the metadata keys without which there is no model
    tensors: Mapping[str, str]  # GGUF module name -> module name
    interleaved: tuple[str, ...] = ()
    interleaved_in: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)  # tensor -> why a file that has it is not read


@dataclass(frozen=True)
class Family:
    """One row per family. Paths are relative to the base model (``module.<base_model_prefix>``), the head to the whole one."""

    name: str
    model_types: tuple[str, ...]
    kind: str  # "causal-lm", "encoder" or "module"
    auto: str  # the transformers class that builds the model where its config names no architecture
    blocks: str  # path of the list of blocks; "" makes the whole module one block
    stem: tuple[str, ...] = ()  # what runs before the first block
    norm: str = ""  # what runs after the last block
    head: str = ""
    feeds: tuple[Feed, ...] = ()
    residual: Residual | None = None  # None where a rotation of the stream would change what the model computes
    heads: tuple[Heads, ...] = ()
    optional: tuple[str, ...] = ()  # parts that checkpoints may lack; then the model goes without
    gguf: GGUFTable | None = None
    renamed: Mapping[str, str] = field(default_factory=dict)  # endings of tensor names in old checkpoints


@cache
def families() -> tuple[Family, ...]:
    """Every row, in the order of the file names."""
    return tuple(registry.find(ROOM, name).FAMILY for name in registry.names(ROOM))


def family_of(model_type: str | None) -> Family:
    """The row for a transformers ``model_type``; the ``plain`` row for any other module."""
    for family in families():
        if model_type in family.model_types:
            return family
    return registry.find(ROOM, "plain").FAMILY


def base_path(module: nn.Module) -> str:
    """Dotted path of the transformers base model inside ``module``; "" when it is the base model or has none."""
    prefix = getattr(type(module), "base_model_prefix", "")
    return prefix if prefix and prefix in dict(module.named_children()) else ""


def join(*parts: str) -> str:
    """Dotted path of the parts that are not empty."""
    return ".".join(part for part in parts if part)


def below(name: str, prefixes: Sequence[str]) -> bool:
    """Is the dotted name one of these, or inside one? "" is the root, not what it holds."""
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)

"""What a block method is given, what it gives back, and what every one of them lets a recipe say."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from netweight import losses
from netweight.compress._parallel import Pool
from netweight.compress._plugin import Moments, Solution
from netweight.errors import SettingsError
from netweight.formats import Format
from netweight.models import Feed
from netweight.progress import Progress, silent
from netweight.provenance import derived_seed
from netweight.settings import Settings

Run = Callable[[nn.Module, int], Tensor]  # the block's output on a batch, by number


class Training(Settings):
    """What every method that trains lets a recipe say."""

    loss: str | dict[str, Any] = Field(
        "mse", validate_default=True, description="what is minimized: a name, or a table with its settings"
    )
    batch: int = Field(2, ge=1, description="calibration batches per step")
    held_out: float = Field(0.125, ge=0, lt=1, description="share of the batches that choose the best step")
    precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="of the matrix products while training; bf16 only where the processor has it"
    )
    channels: Literal["first", "last"] | None = Field(
        None,
        description="which axis of a plain module's outputs is a row of the loss: first, as in (B, C, H, W), or last, as in "
        "(B, T, C); found from the layers if absent",
    )

    def steps_in(self, passes: int, batches: int) -> int:
        """Steps that so many passes over the batches take."""
        return passes * max(1, batches // self.batch)

    @field_validator("loss")
    @classmethod
    def _complete(cls, value: str | dict[str, Any]) -> dict[str, Any]:
        try:
            return losses.table(losses.make(value))
        except SettingsError as error:
            raise ValueError(str(error)) from error


class BlockTraining(Training):
    """What those let it say that train block by block."""

    inputs: Literal["quantized", "original"] = Field(
        "quantized",
        description="what a block is fed: outputs of the quantized blocks before it, or of the original ones",
    )
    aug_loss: bool = Field(
        False,
        description="match what the original block gives on the quantized states too, beside what it gave on its own",
    )


@dataclass(frozen=True, eq=False)
class Problem:
    """A block to be put into formats.

    ``layers`` are those the method is to do, by their name in the model, with their place below the block; ``targets`` the
    outputs to come close to, one or more for each batch; ``run`` feeds a copy of the block what the settings ask for.
    """

    name: str
    module: nn.Module
    layers: Mapping[str, str]
    formats: Mapping[str, Format]
    run: Run
    targets: Sequence[Sequence[Tensor]]
    moments: Callable[[], Mapping[str, Moments | None]]
    feeds: tuple[Feed, ...]
    pool: Pool
    seed: int
    progress: Progress = silent
    channels: int = -1  # axis of the outputs that holds what one token or pixel is made of

    def layer(self, name: str) -> nn.Module:
        return self.module.get_submodule(self.layers[name])

    def parameter(self, name: str) -> str:
        """Name of a layer's weight below the block."""
        return f"{self.layers[name]}.weight" if self.layers[name] else "weight"

    def generator(self, *what: object) -> torch.Generator:
        """Its own for each purpose: what one draws does not shift what another does."""
        return torch.Generator().manual_seed(derived_seed(self.seed, self.name, *what))


class Piece(ABC):
    """What is trained for one layer, and the tensors of the block that it decides.

    ``trained`` holds the leaves by role: a method gives each role a rate. Pieces may share a leaf.
    """

    name = ""  # of the layer in the model
    trained: dict[str, Tensor]

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Parameters of the block by name, differentiable in what is trained."""

    def unrounded(self) -> Tensor | None:
        """(O, I): what the rounded weight is to be judged by, where that is not the layer's weight as it came."""
        return None

    def solution(self) -> Solution | None:
        """The layer in its format; None for a piece that only changes other parameters."""
        return None


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """The pieces as they are to be stored, and what the ledger is to say of them."""

    pieces: Sequence[Piece]
    note: str

"""How a net is trained: what a recipe's ``[training]`` table may say."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from netweight.settings import Settings


class Training(Settings):
    """Passes, rates and when to stop. Defaults are those of arXiv 2605.27616 for convolutional nets."""

    epochs: int = Field(100, ge=1, description="passes over the training slices, at most")
    batch: int = Field(32, ge=1, description="slices of a step")
    slices: int | None = Field(None, ge=1, description="slices of a pass, drawn anew each time; all if absent")
    positive: float | None = Field(
        None, ge=0, le=1, description="share of a pass's slices that hold something to find; as it comes if absent"
    )
    optimizer: Literal["adamax", "adamw"] = Field("adamax", description="Adamax or AdamW")
    lr: float = Field(5e-4, gt=0, le=1e6, description="rate of the optimizer")
    weight_decay: float = Field(0.0, ge=0, description="decay of weights")
    clip: float = Field(1.0, gt=0, description="largest norm of all gradients together")
    warmup: int = Field(0, ge=0, description="steps over which the rate rises from 0")
    schedule: Literal["plateau", "cosine"] = Field(
        "plateau", description="the rate is halved where the validation loss stands still, or falls to 0 along a cosine"
    )
    patience: int = Field(
        10, ge=1, description="a plateau's rate is halved after more passes than this without a better validation loss"
    )
    stop_after: int = Field(20, ge=1, description="passes without a better validation loss after which training ends")
    stop_from: int = Field(40, ge=0, description="passes during which it does not end early")
    min_delta: float = Field(1e-3, ge=0, description="what counts as better, when to stop")
    augment: bool = Field(True, description="flips, shifts, turns, brightness and contrast of training slices")
    teacher_weight: float = Field(1.0, ge=0, description="of the distillation from a teacher, where there is one")
    temperature: float = Field(2.0, gt=0, description="by which a teacher's logits are divided")
    precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="of what is not quantized; bf16 by autocast, where the processor has it"
    )

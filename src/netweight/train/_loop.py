"""Training from scratch: passes over slices, a validation loss after each, the best weights kept, restarts to the bit.

Everything random is drawn from (seed, what, when): the order of a pass, a slice's augmentation, dropout at a step, stochastic
rounding. What a pass begins with is kept in one file, so that training that was killed goes on at the last whole pass and ends in
the same bytes. A loss that is not finite ends training with the best weights so far, and the outcome says which tensor was first.
"""

from __future__ import annotations

import copy
import io
import math
import pickle
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from netweight import models
from netweight.errors import CorruptError, DataError, SettingsError
from netweight.files import write_atomically
from netweight.progress import Progress, silent
from netweight.provenance import derived_seed
from netweight.train._blame import first_not_finite
from netweight.train._objective import bce_tversky, distillation
from netweight.train._optimizer import optimizer
from netweight.train._pace import Pace
from netweight.train._settings import Training
from netweight.words import counted

STATE = "state.pt"
EVALUATED = 64  # slices at a time where no gradients are kept

Batch = tuple[Tensor, Tensor]  # images (B, C, H, W) float32, masks (B, H, W)


class Slices(Protocol):
    """Numbered slices with masks."""

    def drawn(self, numbers: Sequence[int], epoch: int) -> Batch:
        """Augmented as this pass has it."""
        ...

    def plain(self, numbers: Sequence[int]) -> Batch:
        """As they are."""
        ...

    def positive(self, number: int) -> bool:
        """Is there something to find in it?"""
        ...


class Hook(Protocol):
    """What is told of every step, and keeps state of its own (the quantized layers' draws, resets of oscillating weights)."""

    def before(self, step: int) -> None: ...
    def after(self, step: int) -> None: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


@dataclass(frozen=True)
class Lesson:
    """A net, what it is to learn from and what chooses among its states. ``teacher`` gives logits for images."""

    module: nn.Module
    slices: Slices
    train: Sequence[int]
    validation: Sequence[int]
    teacher: Callable[[Tensor], Tensor] | None = None
    hooks: Sequence[Hook] = ()


@dataclass
class History:
    """A row per pass, the best pass, why training ended, and the seconds that all passes took, those before it was interrupted too."""

    rows: list[dict[str, float]] = field(default_factory=list)
    best: int = 0
    best_loss: float = math.inf
    steps: int = 0
    ended: str = ""
    diverged: bool = False  # something was not finite
    seconds: float = field(default=0.0, compare=False)


def fit(
    lesson: Lesson, settings: Training, *, seed: int, folder: Path | None = None, progress: Progress = silent
) -> History:
    """Train, on the device where the module is; it ends with its best-validation weights, in evaluation mode.

    Args:
      folder: where the state after each pass is kept, and found again.
    Returns:
      what happened. Where logits, a loss or a gradient were not finite, ``ended`` names the tensor that overflowed first.
    Raises:
      DataError, SettingsError: as ``check_lesson``. CorruptError: the state in the folder cannot be read.
    """
    check_lesson(lesson, settings)
    run = _Run(lesson, settings, seed)
    place = None if folder is None else folder / STATE
    if place is not None and place.exists():
        run.load(_kept(place))
    with _float32():
        while not run.history.ended:
            begun = time.monotonic()
            run.epoch(progress)
            run.history.seconds += time.monotonic() - begun
            if place is not None:
                buffer = io.BytesIO()  # torch's own writer tells of a full disk in words of its own
                torch.save(run.state(), buffer)
                write_atomically(place, buffer.getvalue())
    lesson.module.load_state_dict(run.best)
    lesson.module.eval()
    return replace(run.history, ended="; ".join(part for part in (run.history.ended, run.said) if part))


def check_lesson(lesson: Lesson, settings: Training) -> None:
    """Before anything is written.

    Raises:
      DataError: nothing to train on, nothing to choose by, or slices of one kind where a share of both is asked for.
      SettingsError: the rate would rise for longer than training can last.
    """
    if not lesson.train or not lesson.validation:
        raise DataError(
            f"{counted(len(lesson.train), 'slice')} to train on and {len(lesson.validation)} to validate with: both are needed"
        )
    _kinds(lesson, settings)
    if settings.warmup > (steps := _steps(lesson, settings)):
        raise SettingsError(f"warmup = {settings.warmup}: all passes together have {counted(steps, 'step')}")


def _kept(place: Path) -> dict[str, Any]:
    try:
        return torch.load(place, weights_only=True, map_location="cpu")
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
        raise CorruptError(f"{place} is damaged; remove {place.parent} to start over") from error


def _float32() -> AbstractContextManager[None]:
    """On a GPU float32 means float32: torch's convolutions would take operands of 10 bits (TF32) there."""
    return torch.backends.cudnn.flags(
        enabled=torch.backends.cudnn.enabled, benchmark=False, deterministic=True, allow_tf32=False
    )


class _Run:
    def __init__(self, lesson: Lesson, settings: Training, seed: int) -> None:
        self.lesson, self.settings, self.seed = lesson, settings, seed
        self.module = lesson.module
        wanted = [p for p in self.module.parameters() if p.requires_grad]
        self.optimizer = optimizer(wanted, settings)
        self.parameters, self.pace, self.history = wanted, Pace(), History()
        self.device = wanted[0].device if wanted else torch.device("cpu")
        self.half, self.said = models.bf16_or_why_not(settings.precision, self.device.type)
        self.best = copy.deepcopy(self.module.state_dict())

    def epoch(self, progress: Progress) -> None:
        """One pass, its validation, and what follows from it."""
        number = len(self.history.rows) + 1
        lost: list[float] = []
        numbers = order(self.lesson, self.settings, self.seed, number)
        batches = batched(numbers, self.settings.batch)
        self.module.train()
        for count, chosen in enumerate(batches, 1):
            loss = self.step(chosen, number)
            if loss is None:
                return
            lost.append(loss)
            progress("steps", (number - 1) * len(batches) + count, self.settings.epochs * len(batches))
        validation, first = self.validated()
        if first:
            self.diverge(f"validation after pass {number} is not finite: first {first}")
            return
        self.history.rows.append(
            {"epoch": number, "train": math.fsum(lost) / len(lost), "validation": validation, "rate": self.rate()}
        )
        if validation < self.history.best_loss:
            self.history.best, self.history.best_loss = number, validation
            self.best = copy.deepcopy(self.module.state_dict())
        self.pace.after(number, validation, self.settings)
        if self.pace.over:
            last = number >= self.settings.epochs
            self.history.ended = "all passes done" if last else f"no better for {self.settings.stop_after} passes"
        progress("passes", number, self.settings.epochs, f"validation loss {validation:.4f}")

    def step(self, chosen: Sequence[int], epoch: int) -> float | None:
        """One step; its loss, or None where that was not finite."""
        step = self.history.steps
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate()
        for hook in self.lesson.hooks:
            hook.before(step)
        take = self.lesson.slices.drawn(chosen, epoch) if self.settings.augment else self.lesson.slices.plain(chosen)
        images, masks = (part.to(self.device) for part in take)

        def forward() -> Tensor:
            with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
                torch.manual_seed(derived_seed(self.seed, "dropout", step))
                return self.loss(images, masks)

        try:
            loss = forward()
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise SettingsError(
                f"a step of {len(chosen)} slice of {images.shape[-1]} pixels leaves batch normalization one value per channel; take "
                "larger slices ([data] size), or two or more slices for a step ([training] batch)"
            ) from error
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.parameters, self.settings.clip)
        if not bool(torch.isfinite(loss.detach()) & torch.isfinite(norm)):
            self.diverge(
                f"not finite at step {step + 1}, in pass {epoch}: first {first_not_finite(self.module, forward)}"
            )
            return None
        self.optimizer.step()
        for hook in self.lesson.hooks:
            hook.after(step)
        self.history.steps += 1
        return float(loss.detach())

    def diverge(self, why: str) -> None:
        """End here."""
        kept = "the best weights before it are kept" if self.history.best else "the weights are those it began with"
        self.history.ended, self.history.diverged = f"{why}; {kept}", True

    def loss(self, images: Tensor, masks: Tensor) -> Tensor:
        kind = images.device.type
        with torch.autocast(kind, torch.bfloat16, enabled=self.half):
            logits = self.module(images)
        total = _marked(bce_tversky(logits, masks), logits)
        if self.lesson.teacher is not None and self.settings.teacher_weight:
            with torch.no_grad():
                wanted = self.lesson.teacher(images)
            total = total + self.settings.teacher_weight * distillation(
                logits, wanted, temperature=self.settings.temperature
            )
        return total

    @torch.no_grad()
    def validated(self) -> tuple[float, str]:
        """Mean loss of the validation slices, in evaluation mode, and what was not finite first."""
        self.module.eval()
        found, numbers = [], list(self.lesson.validation)
        for k in range(0, len(numbers), EVALUATED):
            images, masks = (part.to(self.device) for part in self.lesson.slices.plain(numbers[k : k + EVALUATED]))

            def forward(images: Tensor = images, masks: Tensor = masks) -> Tensor:
                logits = self.module(images)
                return _marked(bce_tversky(logits, masks), logits)

            loss = float(forward())
            if not math.isfinite(loss):
                return loss, first_not_finite(self.module, forward)
            found.append(loss * len(images))
        return math.fsum(found) / len(numbers), ""

    def rate(self) -> float:
        warm = min(1.0, (self.history.steps + 1) / self.settings.warmup) if self.settings.warmup else 1.0
        return (
            self.settings.lr
            * self.pace.left(self.history.steps / _steps(self.lesson, self.settings), self.settings)
            * warm
        )

    def state(self) -> dict[str, Any]:
        return {
            "module": self.module.state_dict(),
            "best": self.best,
            "optimizer": self.optimizer.state_dict(),
            "pace": asdict(self.pace),
            "history": asdict(self.history),
            "hooks": [hook.state_dict() for hook in self.lesson.hooks],
        }

    def load(self, state: Mapping[str, Any]) -> None:
        self.module.load_state_dict(state["module"])
        self.best = state["best"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.pace, self.history = Pace(**state["pace"]), History(**state["history"])
        for hook, kept in zip(self.lesson.hooks, state["hooks"], strict=True):
            hook.load_state_dict(kept)


def _marked(loss: Tensor, logits: Tensor) -> Tensor:
    """The loss, or NaN where a logit is not finite: the loss cuts logits off, and would hide an infinite one."""
    return loss + (logits.detach().float() * 0).sum()


def order(lesson: Lesson, settings: Training, seed: int, epoch: int) -> list[int]:
    """Numbers of the slices of one pass, in order: all of them, or as many and of such a kind as the settings ask for."""
    generator = torch.Generator().manual_seed(derived_seed(seed, "order", epoch))
    numbers = list(lesson.train)
    wanted = per_pass(lesson, settings)
    kinds = _kinds(lesson, settings)
    if settings.positive is None:
        return _shuffled(numbers, generator)[:wanted]
    counts = [round(wanted * settings.positive), wanted - round(wanted * settings.positive)]
    chosen = [n for kind, count in zip(kinds, counts, strict=True) for n in _cycled(kind, count, generator)]
    return _shuffled(chosen, generator)


def _kinds(lesson: Lesson, settings: Training) -> list[list[int]]:
    """Training slices with something to find and those without, where a share of them is asked for."""
    if settings.positive is None:
        return []
    kinds = [[n for n in lesson.train if lesson.slices.positive(n) is kind] for kind in (True, False)]
    if not all(kinds):
        raise DataError(
            "positive asks for a share of slices with something to find, but the training slices are all of one kind"
        )
    return kinds


def batched(numbers: Sequence[int], size: int) -> list[Sequence[int]]:
    """Batches of a pass. A single slice left over joins the batch before it: batch normalization cannot learn from one value per channel."""
    found = [numbers[k : k + size] for k in range(0, len(numbers), size)]
    if size > 1 and len(found) > 1 and len(found[-1]) == 1:
        found[-2:] = [numbers[(len(found) - 2) * size :]]
    return found


def per_pass(lesson: Lesson, settings: Training) -> int:
    """Slices of one pass; only where a share of them is asked for can there be more than there are."""
    wanted = settings.slices or len(lesson.train)
    return wanted if settings.positive is not None else min(wanted, len(lesson.train))


def _steps(lesson: Lesson, settings: Training) -> int:
    """Of all passes."""
    return len(batched(range(per_pass(lesson, settings)), settings.batch)) * settings.epochs


def _cycled(numbers: Sequence[int], count: int, generator: torch.Generator) -> Iterator[int]:
    """``count`` of them, none drawn again before all have been."""
    while count > 0:
        yield from _shuffled(numbers, generator)[:count]
        count -= len(numbers)


def _shuffled(numbers: Sequence[int], generator: torch.Generator) -> list[int]:
    return [numbers[k] for k in torch.randperm(len(numbers), generator=generator).tolist()]

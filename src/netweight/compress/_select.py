"""Which steps a recipe means for which layer, decided before anything runs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from netweight import formats
from netweight import recipe as recipes
from netweight.errors import FormatError, PartialError
from netweight.ledger import Ledger, Row
from netweight.recipe import Recipe, Step

LINEAR = ("linear", "linear_transposed")  # kinds whose input is rows of a matrix


class LayerLike(Protocol):
    """What selection needs to know of a layer; ``models.Layer`` is one."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def shape(self) -> tuple[int, int]: ...
    @property
    def conv_groups(self) -> int: ...
    @property
    def block(self) -> str | None: ...
    @property
    def tied_to(self) -> str | None: ...


@dataclass(frozen=True)
class Assignment:
    """One layer's steps: those that rescale its input channels, the one that rounds it, or why it is left alone."""

    name: str
    kind: str
    shape: tuple[int, int]
    block: str | None
    rescaling: tuple[Step, ...] = ()
    rounding: Step | None = None
    tuning: Step | None = None  # what tunes its scales once the whole model is rounded
    reason: str = ""
    tied_to: str = ""
    rotating: Step | None = None  # what rotated it before all others
    notes: tuple[str, ...] = ()  # on the layer as it came to the steps

    @property
    def format(self) -> formats.Format | None:
        return formats.get(self.rounding.format) if self.rounding and self.rounding.format else None

    @property
    def activations(self) -> str:
        """What its input is rounded to; "" for nothing."""
        return (self.rounding.activations or "") if self.rounding else ""

    @property
    def trained(self) -> bool:
        """Is it rounded together with the other layers of its block?"""
        return self.rounding is not None and hasattr(self.rounding.plugin, "reconstruct")

    @property
    def step_names(self) -> tuple[str, ...]:
        steps = [s for s in (self.rotating, *self.rescaling, self.rounding, self.tuning) if s]
        return tuple(dict.fromkeys(step.use for step in steps))


@dataclass(frozen=True)
class Plan:
    """Every layer's assignment in model order, and what in the recipe cannot be done."""

    assignments: Mapping[str, Assignment]
    problems: tuple[str, ...] = ()
    partial: bool = False  # may a layer that turns out not to be doable be left alone?

    def ledger(self, stored_bytes: Mapping[str, int], kept_bytes: Mapping[str, int]) -> Ledger:
        """Rows as they are expected to come out, before anything has run.

        Args:
          stored_bytes: of each layer's weight where it comes from.
          kept_bytes: of each layer's weight in the artifact, if it is left alone.
        """
        rows = (
            planned_row(a, stored_bytes.get(a.name, 0), kept_bytes.get(a.name, 0)) for a in self.assignments.values()
        )
        return Ledger(tuple(rows))

    @property
    def trains(self) -> bool:
        """Does any step train blocks against their originals?"""
        return any(a.trained for a in self.assignments.values())

    @property
    def tuning(self) -> Step | None:
        """The step that tunes the whole model in the end."""
        return next((a.tuning for a in self.assignments.values() if a.tuning), None)

    @property
    def needs_data(self) -> bool:
        """Does any step want to see the layers' inputs?"""
        steps = [s for a in self.assignments.values() for s in (*a.rescaling, a.rounding, a.tuning) if s]
        return any(step.plugin.STATS != "none" for step in steps)


def plan(
    recipe: Recipe,
    layers: Mapping[str, LayerLike],
    *,
    feeds: Sequence[Sequence[str]] = (),
    rotated: Collection[str] = (),
    notes: Mapping[str, tuple[str, ...]] | None = None,
    allow_partial: bool = False,
) -> Plan:
    """Steps per layer.

    By default a step means every linear and convolution inside the blocks; embeddings and heads must be named in ``only``.
    A weight shared by two layers is quantized once, under its owner, and both rows say so.

    Args:
      feeds: layers that read what one norm or layer gives, so that channel scales can be folded between them.
      rotated: layers that the recipe's first step has rotated; it does nothing else.
      notes: what the ledger is to say of layers before any step.
    Raises:
      PartialError: a pattern matches nothing, a step ends up with nothing to do, or a layer it names cannot be done, all
        listed; not with ``allow_partial``, which keeps them as ``problems``.
      FormatError: a format does not fit a layer it is meant for, not with ``allow_partial``.
    """
    problems = recipes.unmatched(recipe.steps, list(layers))
    steps = [step for step in recipe.steps if not recipes.rotates(step.plugin)]
    rotating = next((step for step in recipe.steps if recipes.rotates(step.plugin)), None)
    if not steps and rotating:
        problems.append(f"step 1 ({rotating.use}): only rotates; add a rounding step such as rtn or gptq")
    chosen = {name: [s for s in steps if _selects(s, layer)] for name, layer in layers.items()}
    for name, layer in layers.items():
        if layer.tied_to:
            chosen[layer.tied_to] = [s for s in steps if s in chosen[layer.tied_to] or s in chosen[name]]
    misfits: list[str] = []
    blocked: list[Step] = []  # steps of layers that cannot be done
    assignments: dict[str, Assignment] = {}
    for name, layer in layers.items():
        made, problem = _assign(layer, chosen[layer.tied_to or name])
        by = rotating if name in rotated else None
        assignments[name] = replace(made, rotating=by, notes=(notes or {}).get(name, ()))
        blocked += chosen[layer.tied_to or name] if problem else []
        if problem and not layer.tied_to:
            (misfits if problem.startswith("misfit: ") else problems).append(problem.removeprefix("misfit: "))
    settled = [*blocked, *([rotating] if rotating else [])]
    others = [(number, step) for number, step in enumerate(recipe.steps, 1) if not any(step is s for s in settled)]
    problems += _idle(others, assignments, feeds)
    if misfits and not allow_partial:
        raise FormatError(_listed(misfits, "layers do not fit their format"))
    if problems and not allow_partial:
        raise PartialError(_listed(problems, "things the recipe names would be left undone"))
    return Plan(assignments, tuple(problems + misfits), allow_partial)


def planned_row(a: Assignment, stored_bytes: int, kept_bytes: int) -> Row:
    """``kept_bytes``: what the weight takes in the artifact if it is left alone."""
    format = a.format
    rotated = (a.rotating.use,) if a.rotating else ()
    if format is None:
        return Row(a.name, a.kind, a.shape, "left", steps=rotated, bytes_before=stored_bytes,
                   bytes_after=kept_bytes, reason=a.reason, tied_to=a.tied_to, notes=a.notes)  # fmt: skip
    after = 0 if a.tied_to else format.nbytes(a.shape)
    notes = (*a.notes, *([f"its input is rounded to {a.activations}"] if a.activations else []))
    return Row(a.name, a.kind, a.shape, "planned", format.name, a.step_names, stored_bytes, after, tied_to=a.tied_to,
               notes=notes)  # fmt: skip


def _selects(step: Step, layer: LayerLike) -> bool:
    return step.selects(layer.name, default=layer.block is not None and layer.kind != "embedding")


def _assign(layer: LayerLike, steps: list[Step]) -> tuple[Assignment, str]:
    """The assignment, and what is wrong with it ("" if nothing)."""
    base = {
        "name": layer.name,
        "kind": layer.kind,
        "shape": layer.shape,
        "block": layer.block,
        "tied_to": layer.tied_to or "",
    }
    if not steps:
        outside = layer.block is None or layer.kind == "embedding"
        reason = "outside the blocks and not named in `only`" if outside else "no step selects it"
        return Assignment(**base, reason=reason), ""
    rounding = next((s for s in reversed(steps) if recipes.rounds(s.plugin)), None)
    before = steps[: steps.index(rounding) + 1] if rounding else steps
    rescaling = tuple(s for s in before if hasattr(s.plugin, "rescale"))
    if rounding is None:
        reason = (
            f"{layer.name}: {' and '.join(s.use for s in steps)} only rescale; add a rounding step such as rtn or gptq"
        )
        return Assignment(**base, reason=reason), reason
    blind = layer.kind == "embedding" or (layer.block is None and layer.tied_to)
    if rounding.plugin.STATS != "none" and blind:
        reason = (
            f"{layer.name}: {rounding.use} needs the layer's inputs, and an embedding's are one-hot; "
            "use rtn, mse_clip or hqq there"
        )
        return Assignment(**base, reason=reason), reason
    if hasattr(rounding.plugin, "reconstruct") and layer.block is None:
        reason = (
            f"{layer.name}: {rounding.use} trains blocks, and this layer is in none; use rtn, mse_clip or gptq there"
        )
        return Assignment(**base, reason=reason), reason
    if rounding.activations and layer.kind not in LINEAR and not _reads_blocks(layer, rounding.activations):
        reason = f"{layer.name}: inputs of a layer of kind {layer.kind} cannot be rounded to {rounding.activations}; give it a step without activations"
        return Assignment(**base, reason=reason), reason
    try:
        format = formats.get(str(rounding.format))
        format.grid(layer.shape)
        if hasattr(rounding.plugin, "check"):
            rounding.plugin.check(format, rounding.settings)
    except FormatError as error:
        return Assignment(**base, reason=str(error)), f"misfit: {layer.name}: {error}"
    looked_up = layer.kind == "embedding"  # row by row, and not multiplied
    after = [] if looked_up else steps[steps.index(rounding) :]
    tuning = next((s for s in reversed(after) if hasattr(s.plugin, "transform")), None)
    return Assignment(**base, rescaling=rescaling, rounding=rounding, tuning=tuning), ""


def _reads_blocks(layer: LayerLike, activations: str) -> bool:
    """Can the layer's input be rounded in blocks of its channels?"""
    return layer.kind.startswith("conv") and layer.conv_groups == 1 and not formats.activations(activations).levels


def _idle(
    steps: Sequence[tuple[int, Step]], assignments: Mapping[str, Assignment], feeds: Sequence[Sequence[str]]
) -> list[str]:
    """One message per numbered step that ends up with nothing to do."""
    found = []
    for number, step in steps:
        rounds = any(step is a.rounding or step is a.tuning for a in assignments.values())
        rescales = {a.name for a in assignments.values() if any(s is step for s in a.rescaling)}
        if rounds or any(rescales.issuperset(layers) for layers in feeds):
            continue
        if rescales:
            reason = "nothing before the layers it selects can take up channel scales"
        elif not any(step.selects(name, default=True) for name in assignments):
            continue  # its patterns match nothing, which is said elsewhere
        elif hasattr(step.plugin, "transform"):
            reason = (
                "no layer is left for it; it tunes what a step before it has rounded, and only one such step can do so"
            )
        elif recipes.rounds(step.plugin):
            reason = "no layer is left for it; a later step rounds everything it selects"
        else:
            reason = "no layer is left for it; it must come before the step that rounds"
        found.append(f"step {number} ({step.use}): {reason}")
    return found


def _listed(problems: list[str], what: str) -> str:
    shown = problems[:8]
    more = [f"… and {len(problems) - len(shown)} more"] if len(problems) > len(shown) else []
    return "\n  ".join([f"{len(problems)} {what}:", *shown, *more])

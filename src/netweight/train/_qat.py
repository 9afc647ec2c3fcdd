"""What a recipe of quantized training is: for each operand of the three products a format, a rounding, a transform and a scale rule.

A layer has three products: y = X W^T (forward), dX = G W (gradient of the input), dW = G^T X (gradient of the weight).
Source: arXiv 2605.27616, section 3.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from netweight import formats, settings
from netweight.errors import FormatError, SettingsError, UnknownName, nearest

ROLES = ("forward_x", "forward_w", "dgrad_g", "dgrad_w", "wgrad_g", "wgrad_x")
REUSING = ("dgrad_w", "wgrad_x")  # what the forward product has rounded already


@dataclass(frozen=True)
class Operand:
    """How one operand of a product is rounded; ``format`` None: it is not, and then the transform cancels and is left out.

    ``rule``: as ``formats.round_blocks``. ``hadamard``: rounded between a random Hadamard transform and its inverse.
    """

    format: str | None = None
    rounding: Literal["nearest", "stochastic"] = "nearest"
    hadamard: bool = False
    rule: str = "amax"


@dataclass(frozen=True)
class Reset:
    """When oscillating weights are put into the middle of their bin. Source: TetraJet-v2, arXiv 2510.27527.

    From step ``start`` on, in every ``every`` steps the first ``window`` are watched: a weight whose rounded value has moved
    ``threshold`` times as far as the weight itself is set to its rounded value.
    """

    start: int = 8000
    every: int = 200
    window: int = 50
    threshold: float = 16.0


@dataclass(frozen=True)
class Qat:
    """One recipe. ``"forward"`` for an operand: what the forward product used, so that gradients are those of the rounded net.

    ``learned``: with this many bits, weights and inputs take learned scales instead (LSQ), and operands are left alone.
    """

    name: str
    forward_x: Operand = Operand()
    forward_w: Operand = Operand()
    dgrad_g: Operand = Operand()
    dgrad_w: Operand | Literal["forward"] = Operand()
    wgrad_g: Operand = Operand()
    wgrad_x: Operand | Literal["forward"] = Operand()
    summary: str = ""
    source: str = ""
    learned: int | None = None
    reset: Reset | None = None

    @property
    def rounds(self) -> bool:
        """Does anything get rounded?"""
        return self.learned is not None or any(
            isinstance(operand, Operand) and operand.format is not None for operand in self.operands().values()
        )

    def between_inputs(self) -> Qat:
        """The recipe for a product of two inputs, such as attention's: its right factor is rounded as an input too, not as a weight.

        A transform surrounds both operands of a product or neither.
        """
        again = self.wgrad_x
        if isinstance(again, Operand):
            again = replace(again, hadamard=self.dgrad_g.hadamard)
        return replace(self, forward_w=self.forward_x, dgrad_w=again, learned=None, reset=None)

    def operands(self) -> dict[str, Operand | str]:
        """The six operands by role."""
        return {role: getattr(self, role) for role in ROLES}


class OperandSettings(settings.Settings):
    """``Operand`` as a TOML table."""

    format: str | None = None
    rounding: Literal["nearest", "stochastic"] = "nearest"
    hadamard: bool = False
    rule: str = "amax"


class ResetSettings(settings.Settings):
    """``Reset`` as a TOML table."""

    start: int = Field(8000, ge=0, description="steps")
    every: int = Field(200, ge=2, description="steps")
    window: int = Field(50, ge=1, description="steps")
    threshold: float = Field(16.0, gt=0)


class QatSettings(settings.Settings):
    """A recipe as a TOML file: ``base`` is the row it starts from, all else replaces what that has."""

    name: str
    base: str = "baseline"
    summary: str = ""
    forward_x: OperandSettings | None = None
    forward_w: OperandSettings | None = None
    dgrad_g: OperandSettings | None = None
    dgrad_w: Literal["forward"] | OperandSettings | None = None
    wgrad_g: OperandSettings | None = None
    wgrad_x: Literal["forward"] | OperandSettings | None = None
    learned: int | None = Field(None, ge=2, le=8, description="bits with learned scales (LSQ)")
    reset: ResetSettings | None = None


def catalogue() -> tuple[Qat, ...]:
    """Every row, in the order in which they are documented."""
    from netweight.train import _catalogue

    return _catalogue.ROWS


def recipe(name: str | Path) -> Qat:
    """The row of this name, or the recipe in a ``.toml`` file.

    Raises:
      UnknownName: no such row; the nearest is offered. SettingsError: the file is not a recipe.
    """
    if str(name).endswith(".toml"):
        return from_table(settings.read_toml(name), where=str(name))
    rows = {row.name: row for row in catalogue()}
    if name not in rows:
        raise UnknownName(f"{str(name)!r} is not a recipe of quantized training{nearest(str(name), rows)}")
    return rows[str(name)]


def from_table(table: dict[str, Any], *, where: str) -> Qat:
    """A recipe from what a TOML file holds. Raises: SettingsError: as ``settings.parse``, or operands that make no sense."""
    given = settings.parse(QatSettings, table, where)
    made = replace(
        recipe(given.base), name=given.name, summary=given.summary or recipe(given.base).summary, source=where
    )
    for role in ROLES:
        value = getattr(given, role)
        if value is not None:
            made = replace(made, **{role: value if isinstance(value, str) else Operand(**value.model_dump())})
    if given.learned is not None:
        made = replace(made, learned=given.learned)
    if given.reset is not None:
        made = replace(made, reset=Reset(**given.reset.model_dump()))
    check(made)
    return made


def to_table(qat: Qat) -> dict[str, Any]:
    """A recipe as ``from_table`` reads it, nothing left to a base."""
    table: dict[str, Any] = {"name": qat.name, "summary": qat.summary}
    for role, operand in qat.operands().items():
        table[role] = operand if isinstance(operand, str) else _without_none(asdict(operand))
    return _without_none(table | {"learned": qat.learned, "reset": qat.reset and asdict(qat.reset)})


def _without_none(table: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in table.items() if value is not None}


def check(qat: Qat) -> None:
    """Raises: SettingsError: an operand has a format that does not exist or does not fit its place."""
    if qat.reset is not None and qat.reset.window >= qat.reset.every:
        raise SettingsError(
            f"{qat.name}: reset: window = {qat.reset.window} steps must be fewer than every = {qat.reset.every}"
        )
    for role, operand in qat.operands().items():
        if not isinstance(operand, Operand):
            if role not in REUSING:
                raise SettingsError(f'{qat.name}: {role} = "forward" is for {" and ".join(REUSING)} only')
            continue
        if operand.format is None:
            continue
        square = formats.get(operand.format).rows > 1
        if square and not role.endswith("_w"):
            raise SettingsError(f"{qat.name}: {role}: {operand.format} has blocks over rows, which only weights take")
        try:
            formats.check_rounding(operand.format, operand.rule, operand.hadamard)
        except FormatError as error:
            raise SettingsError(f"{qat.name}: {role}: {error}") from error

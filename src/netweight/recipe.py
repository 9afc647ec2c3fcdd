"""A recipe: an ordered list of steps plus a seed, as a TOML file. Knows names and patterns, not methods' arithmetic."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import Field

from netweight import registry
from netweight.errors import SettingsError, nearest
from netweight.provenance import sha256_of_json
from netweight.settings import Settings, parse, read_toml, write_toml

ROOM = "netweight.compress"


class CalibrationSettings(Settings):
    """``[calibration]`` of a recipe."""

    source: str = Field("pydoc-topics/train", description="corpus name, or path of a .txt or .jsonl file")
    samples: int = Field(128, gt=0, description="windows of text")
    length: int = Field(512, gt=1, description="tokens per window")


@dataclass(frozen=True)
class Step:
    """One plug-in with its settings, and the layers it is for.

    ``activations`` is what the layers' inputs are rounded to when the model runs, such as "int8-token"; None leaves them as they are.
    ``only``/``skip`` hold glob patterns on dotted module names (``"*.down_proj"``) or, after ``re:``, regular
    expressions that must match the whole name.
    """

    use: str
    format: str | None
    only: tuple[str, ...]
    skip: tuple[str, ...]
    settings: Settings
    activations: str | None = None

    @property
    def plugin(self) -> ModuleType:
        return registry.find(ROOM, self.use)

    def selects(self, name: str, *, default: bool) -> bool:
        """Is this layer meant? ``default`` is the answer where ``only`` is empty."""
        wanted = any(matches(p, name) for p in self.only) if self.only else default
        return wanted and not any(matches(p, name) for p in self.skip)

    def to_table(self) -> dict[str, Any]:
        table: dict[str, Any] = {"use": self.use}
        if self.format:
            table["format"] = self.format
        if self.activations:
            table["activations"] = self.activations
        if self.only:
            table["only"] = list(self.only)
        if self.skip:
            table["skip"] = list(self.skip)
        return table | self.settings.model_dump(mode="json", exclude_none=True)


@dataclass(frozen=True)
class Recipe:
    """Steps in order, applied to every layer they select; the last rounding step that selects a layer rounds it."""

    steps: tuple[Step, ...]
    calibration: CalibrationSettings = CalibrationSettings()  # pyright: ignore[reportCallIssue]
    seed: int = 0
    name: str = ""
    blocks: tuple[str, ...] = ()  # patterns on the modules of a plain module that are compressed one after the other

    def to_table(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "seed": self.seed,
            **({"blocks": list(self.blocks)} if self.blocks else {}),
            "calibration": self.calibration.model_dump(),
            "step": [step.to_table() for step in self.steps],
        }

    def to_toml(self) -> str:
        """Complete: every setting with the value used, so that a later default cannot change the meaning."""
        return write_toml(self.to_table())

    @property
    def sha256(self) -> str:
        return sha256_of_json(self.to_table())


def matches(pattern: str, name: str) -> bool:
    """Glob, or regular expression after ``re:``, on the whole dotted name."""
    if pattern.startswith("re:"):
        try:
            return re.fullmatch(pattern[3:], name) is not None
        except re.error as error:
            raise SettingsError(f"pattern {pattern!r} is not a regular expression: {error}") from error
    return fnmatch.fnmatchcase(name, pattern)


def rounds(plugin: ModuleType) -> bool:
    """Does this method put layers into a format, layer by layer or block by block?"""
    return hasattr(plugin, "solve") or hasattr(plugin, "reconstruct")


def rotates(plugin: ModuleType) -> bool:
    """Does this method rotate the whole model, before any other looks at it?"""
    return hasattr(plugin, "rotate")


def unmatched(steps: Sequence[Step], names: Sequence[str]) -> list[str]:
    """One message per ``only``/``skip`` pattern that no layer name matches."""
    found = []
    for number, step in enumerate(steps, 1):
        for key, patterns in (("only", step.only), ("skip", step.skip)):
            found += [
                f"step {number} ({step.use}): {key} pattern {pattern!r} matches no layer{_nearest(pattern, names)}"
                for pattern in patterns
                if not any(matches(pattern, name) for name in names)
            ]
    return found


def _nearest(pattern: str, names: Sequence[str]) -> str:
    """The closest name, or pattern for one ending of a name; where none is close, what names end in."""
    endings = {f"*.{name.rpartition('.')[2]}" for name in names}
    hint = nearest(pattern, {*names, *endings})
    return hint if hint.startswith("; did") else nearest(pattern, endings)


def load(source: str | Path | dict[str, Any] | Recipe) -> Recipe:
    """A recipe from a TOML file, a table of the same keys, or a recipe itself.

    Raises:
      SettingsError: unreadable file, unknown method, format or setting (nearest name offered), value outside its
        limits.
    """
    if isinstance(source, Recipe):
        return source
    table = source if isinstance(source, dict) else read_toml(source)
    where = "recipe" if isinstance(source, dict) else Path(source).name
    known = ("name", "seed", "blocks", "calibration", "step")
    for key in table:
        if key not in known:
            raise SettingsError(f"{where}: {key!r} is not a setting{nearest(key, known)}")
    steps = table.get("step")
    if not isinstance(steps, list) or not steps:
        raise SettingsError(f"{where}: a recipe needs at least one [[step]] table")
    name = table.get("name", "" if isinstance(source, dict) else Path(source).stem)
    seed = table.get("seed", 0)
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**63:
        raise SettingsError(f"{where}: seed = {seed!r}: must be a whole number from 0 to 2^63 - 1")
    calibration = parse(CalibrationSettings, table.get("calibration", {}), f"{where}: [calibration]")
    blocks = _patterns(table.get("blocks", []), f"{where}: blocks")
    read = tuple(_step(n, row) for n, row in enumerate(steps, 1))
    for number, step in enumerate(read, 1):
        if number > 1 and rotates(step.plugin):
            raise SettingsError(
                f"step {number} ({step.use}): rotates the whole model, so it must come before every other step; "
                "make it the first, and only once"
            )
    return Recipe(read, calibration, seed, str(name), blocks)


def _step(number: int, row: dict[str, Any]) -> Step:
    if not isinstance(row, dict) or not isinstance(row.get("use"), str):
        raise SettingsError(f'step {number}: needs use = "<method>"; known: {", ".join(registry.names(ROOM))}')
    row = dict(row)
    use = row.pop("use")
    where = f"step {number} ({use})"
    plugin = registry.find(ROOM, use)
    if rotates(plugin) and (given := [key for key in ("format", "only", "skip") if row.get(key)]):
        raise SettingsError(
            f"{where}: {given[0]} = {row[given[0]]!r}: it rotates the whole model and rounds nothing; give {given[0]} to a "
            "step after it"
        )
    format_name = row.pop("format", None)
    if format_name is not None and not isinstance(format_name, str):
        raise SettingsError(f"{where}: format = {format_name!r}: must be a name such as 'int4-g64'")
    if format_name is not None:
        from netweight import formats

        formats.get(format_name)
    elif rounds(plugin):
        raise SettingsError(f"{where}: needs format = \"<format>\", such as 'int4-g64' or 'nvfp4'")
    inputs = row.pop("activations", None) if rounds(plugin) else None
    if inputs is not None and not isinstance(inputs, str):
        raise SettingsError(f"{where}: activations = {inputs!r}: must be a name such as 'int8-token'")
    if inputs is not None:
        from netweight import formats

        formats.activations(inputs)
    patterns = [_patterns(row.pop(key, []), f"{where}: {key}") for key in ("only", "skip")]
    return Step(use, format_name, patterns[0], patterns[1], parse(plugin.Settings, row, where), inputs)


def _patterns(value: Any, where: str) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(p, str) for p in value):
        raise SettingsError(f"{where} = {value!r}: must be a list of patterns")
    for pattern in value:
        matches(pattern, "")
    return tuple(value)

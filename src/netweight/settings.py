"""Strict, frozen settings: a misspelt key is an error that offers the nearest name. TOML in, TOML out."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from netweight.errors import SettingsError, nearest

Seed = Annotated[int, Field(ge=0, lt=2**63)]  # what torch takes as a signed number


class Settings(BaseModel):
    """Base of every settings class: immutable, no extra keys, numbers are finite and not read from strings."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


S = TypeVar("S", bound=Settings)


def parse(kind: type[S], values: dict[str, Any], where: str) -> S:
    """``values`` as a ``kind``.

    Args:
      kind: the settings class.
      values: plain data, as read from TOML.
      where: how an error names the place, such as ``"step 1 (gptq)"``.
    Raises:
      SettingsError: unknown key (nearest name offered), missing key, or a value outside its limits.
    """
    unknown = [key for key in values if key not in kind.model_fields]
    if unknown:
        raise SettingsError(f"{where}: {unknown[0]!r} is not a setting{nearest(unknown[0], kind.model_fields)}")
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        if not first["loc"]:  # what a class says of its values together
            raise SettingsError(f"{where}: {first['msg'].removeprefix('Value error, ')}") from error
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "missing":
            raise SettingsError(f"{where}: {key!r} is missing") from error
        raise SettingsError(f"{where}: {key} = {first['input']!r}: {first['msg']}") from error


def read_toml(path: str | Path) -> dict[str, Any]:
    """The table in a TOML file.

    Raises:
      SettingsError: the file is missing, unreadable or not TOML (line and column named).
    """
    path = Path(path)
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise SettingsError(f"no such file: {path}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot read {path}: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path} is not valid TOML: {error}") from error


def write_toml(table: dict[str, Any]) -> str:
    """TOML text of a table whose values are scalars, lists, tables, or lists of tables; keys keep their order.

    ``tomllib.loads(write_toml(t)) == t`` for such tables.
    """
    return "\n".join(_table_lines(table, "")) + "\n"


def _table_lines(table: dict[str, Any], prefix: str) -> list[str]:
    plain = {k: v for k, v in table.items() if not isinstance(v, dict) and not _is_tables(v)}
    lines = [f"{_key(k)} = {_value(v)}" for k, v in plain.items() if v is not None]
    for key, value in table.items():
        if isinstance(value, dict):
            lines += ["", f"[{prefix}{_key(key)}]", *_table_lines(value, f"{prefix}{_key(key)}.")]
        elif _is_tables(value):
            for item in value:
                lines += ["", f"[[{prefix}{_key(key)}]]", *_table_lines(item, f"{prefix}{_key(key)}.")]
    return lines


def _is_tables(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(item, dict) for item in value)


def _key(key: str) -> str:
    return key if key.replace("_", "").replace("-", "").isalnum() and key.isascii() else _quoted(key)


def _quoted(text: str) -> str:
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"}
    return '"' + "".join(escapes.get(c, c if c >= " " and c != "\x7f" else f"\\u{ord(c):04x}") for c in text) + '"'


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    raise SettingsError(f"{value!r} ({type(value).__name__}) has no TOML form here")

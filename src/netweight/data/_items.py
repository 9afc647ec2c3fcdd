"""Questions and sentence pairs from local files, one frozen item per line."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netweight.data._corpus import read_text
from netweight.errors import DataError
from netweight.provenance import sha256_of_bytes


@dataclass(frozen=True)
class ChoiceItem:
    """A question and its possible answers; ``gold`` is the index of the right one."""

    query: str
    choices: tuple[str, ...]
    gold: int


@dataclass(frozen=True)
class ContextChoiceItem:
    """Several contexts, one continuation; ``gold`` is the index of the context that makes sense."""

    context_options: tuple[str, ...]
    continuation: str
    gold: int


@dataclass(frozen=True)
class ContinuationItem:
    """A text and the words that follow it."""

    context: str
    continuation: str


@dataclass(frozen=True)
class PairItem:
    """Two sentences and how alike people find them."""

    first: str
    second: str
    score: float


Item = ChoiceItem | ContextChoiceItem | ContinuationItem | PairItem


@dataclass(frozen=True)
class ItemFile:
    """The items of one file, all of one kind: "choices", "context-choices", "continuations" or "pairs"."""

    kind: str
    items: tuple[Item, ...]
    source: str  # the file's name without its folder
    sha256: str  # of the file

    def __iter__(self) -> Iterator[Item]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)


def items(path: str | Path) -> ItemFile:
    """Read a ``.jsonl`` file of questions or a ``.csv`` file of sentence pairs.

    Each line of a ``.jsonl`` file has the keys of one kind, the same throughout; more keys are allowed:
    ``{"query", "choices", "gold"}``, ``{"context_options", "continuation", "gold"}`` or ``{"context", "continuation"}``.
    A ``.csv`` file has three columns, sentence, sentence, score; a first row whose score is no number is a header.

    Raises:
      DataError: missing or empty file, or a bad line; file and line number are named.
    """
    path = Path(path)
    readers = {".jsonl": _questions, ".csv": _pairs}
    if path.suffix not in readers:
        raise DataError(f"{path}: items are read from .jsonl or .csv files")
    text = read_text(path)
    kind, found = readers[path.suffix](text, path)
    if not found:
        raise DataError(f"{path} holds no items")
    return ItemFile(kind, tuple(found), path.name, sha256_of_bytes(path.read_bytes()))


def _questions(text: str, path: Path) -> tuple[str, list[Item]]:
    kind, found = "", []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        row = _row(line, where)
        this, build = _kind_of(row, where)
        kind = kind or this
        if this != kind:
            raise DataError(f"{where}: an item of kind {this!r} in a file of kind {kind!r}")
        found.append(build(row, where))
    return kind, found


def _row(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"{where}: not JSON ({error})") from error
    if not isinstance(row, dict):
        raise DataError(f"{where}: an item is a JSON object, this is a {type(row).__name__}")
    return row


def _kind_of(row: dict[str, Any], where: str) -> tuple[str, Callable[[dict[str, Any], str], Item]]:
    if "query" in row and "choices" in row:
        return "choices", _choice
    if "context_options" in row:
        return "context-choices", _context_choice
    if "context" in row and "continuation" in row:
        return "continuations", _continuation
    known = "query+choices+gold, context_options+continuation+gold, or context+continuation"
    raise DataError(f"{where}: keys {', '.join(sorted(row)) or '(none)'} are of no kind known here; needed: {known}")


def _choice(row: dict[str, Any], where: str) -> ChoiceItem:
    choices = _options(row, "choices", where)
    return ChoiceItem(_string(row, "query", where), choices, _gold(row, len(choices), where))


def _context_choice(row: dict[str, Any], where: str) -> ContextChoiceItem:
    options = _options(row, "context_options", where)
    return ContextChoiceItem(options, _string(row, "continuation", where), _gold(row, len(options), where))


def _continuation(row: dict[str, Any], where: str) -> ContinuationItem:
    return ContinuationItem(_string(row, "context", where), _string(row, "continuation", where))


def _string(row: dict[str, Any], key: str, where: str) -> str:
    if not isinstance(value := row.get(key), str):
        raise DataError(f"{where}: {key!r} must be a string, not {value!r}")
    return value


def _options(row: dict[str, Any], key: str, where: str) -> tuple[str, ...]:
    value = row.get(key)
    if not isinstance(value, list) or len(value) < 2 or not all(isinstance(option, str) for option in value):
        raise DataError(f"{where}: {key!r} must be a list of at least two strings, not {value!r}")
    return tuple(value)


def _gold(row: dict[str, Any], count: int, where: str) -> int:
    value = row.get("gold")
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < count:
        raise DataError(f"{where}: 'gold' must be a whole number from 0 to {count - 1}, not {value!r}")
    return value


def _pairs(text: str, path: Path) -> tuple[str, list[Item]]:
    found: list[Item] = []
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for row in reader:
            item = _pair(row, f"{path}, line {reader.line_num}", header_allowed=not found and reader.line_num == 1)
            found += [item] if item else []
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: not CSV ({error})") from error
    return "pairs", found


def _pair(row: list[str], where: str, *, header_allowed: bool) -> PairItem | None:
    if not row:
        return None
    if len(row) != 3:
        raise DataError(f"{where}: a pair has three columns, sentence, sentence, score; this line has {len(row)}")
    try:
        score = float(row[2])
    except ValueError as error:
        if header_allowed:
            return None
        raise DataError(f"{where}: the score {row[2]!r} is not a number") from error
    if not math.isfinite(score):
        raise DataError(f"{where}: the score {row[2]!r} is not finite")
    return PairItem(row[0], row[1], score)

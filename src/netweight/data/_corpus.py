"""Text by name: a corpus is a tuple of documents with its source, split and hash."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from netweight import registry
from netweight.errors import DataError, nearest
from netweight.provenance import sha256_of_json

ROOM = "netweight.data"
SEPARATOR = re.compile(r"<\|endoftext\|>|\f")
SUFFIXES = (".txt", ".jsonl")


@dataclass(frozen=True)
class Corpus:
    """Documents in order. ``sha256`` is the hash of the documents themselves, whatever file they came from."""

    documents: tuple[str, ...]
    source: str  # a named corpus, or a file's name without its folder
    split: str
    sha256: str


def corpus(name_or_path: str | Path) -> Corpus:
    """A named corpus (see ``corpora``), or a file.

    A ``.txt`` file is one document, unless it holds form feeds or ``<|endoftext|>``, which then separate documents. Each
    line of a ``.jsonl`` file is one document: the string under ``"text"``. Blank documents are left out.

    Raises:
      DataError: unknown name (the nearest is offered), a missing, unreadable or empty file, or a line without text.
    """
    name = str(name_or_path)
    if name in corpora():
        source, split = name.rsplit("/", 1)
        return _made(registry.find(ROOM, source.replace("-", "_")).documents(split), source, split)
    path = Path(name_or_path)
    if path.suffix not in SUFFIXES:
        raise DataError(
            f"no corpus named {name!r}{nearest(name, corpora())}; or give the path of a .txt or .jsonl file"
        )
    return _made(_read(path), path.name, "")


def corpora() -> tuple[str, ...]:
    """Names of the corpora known here, ``"<source>/<split>"``; some need the folder that ``NETWEIGHT_DATA`` names."""
    found = []
    for name in registry.names(ROOM):
        found += [f"{name.replace('_', '-')}/{split}" for split in registry.find(ROOM, name).SPLITS]
    return tuple(found)


def _made(documents: Sequence[str], source: str, split: str) -> Corpus:
    kept = tuple(document for document in documents if document.strip())
    if not kept:
        raise DataError(f"{source}{'/' if split else ''}{split} holds no text")
    return Corpus(kept, source, split, sha256_of_json(list(kept)))


def _read(path: Path) -> list[str]:
    text = read_text(path)
    if path.suffix == ".txt":
        return SEPARATOR.split(text)
    return [_text_of(line, path, number) for number, line in enumerate(text.split("\n"), 1) if line.strip()]


def read_text(path: Path) -> str:
    """UTF-8 text of a file. Raises: DataError: missing, not readable, or not UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise DataError(f"no such file: {path}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text: byte {error.start} cannot be read") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error}") from error


def _text_of(line: str, path: Path, number: int) -> str:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"{path}, line {number}: not JSON ({error})") from error
    if not isinstance(row, dict) or not isinstance(row.get("text"), str):
        raise DataError(f'{path}, line {number}: a document is {{"text": "..."}}, this is {line[:60]!r}')
    return row["text"]

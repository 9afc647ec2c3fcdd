"""Data flows one way: docs/architecture.md, "Data flows one way", read from the imports of every file."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import pytest

from contracts.source import Source, documented_shared_modules, documented_steps, imports, source, sources

# Rooms on the same step never import each other; a room imports only from steps before its own.
STEPS = documented_steps()
STEP = {room: number for number, rooms in enumerate(STEPS) for room in rooms}
SHARED = documented_shared_modules()
# The judge never knows the defendant; what reads an artifact never imports what made it.
NEVER = {"evaluate": {"models", "compress"}, "artifact": {"compress"}, "runtime": {"compress"}}
# A recipe checks the names of formats when it is read, and only then.
LAZILY = {("recipe", "formats")}
FRONT = {"__init__", "__main__"}  # the front door sees everything, lazily: test_import_time


def violations(file: Source) -> list[str]:
    """What is wrong with the imports of one file, in words."""
    if file.room in FRONT:
        return []
    ours = [item for item in imports(file) if item.target.split(".")[0] == "netweight"]
    reasons = [(item.line, _why_not(file, [*item.target.split("."), "netweight"][1])) for item in ours]
    return [f"{file.path.name}:{line}: {why}" for line, why in reasons if why]


def _why_not(file: Source, target: str) -> str:
    if file.room in SHARED:
        allowed = target in SHARED or (file.room, target) in LAZILY
        return "" if allowed else f"the shared module {file.room} imports the room {target}"
    if target in SHARED or target == file.room or (target == "netweight" and file.room == "cli"):
        return ""
    if target in ("netweight", "*", "__version__"):
        return "" if target == "__version__" else "imports the front door, netweight itself; import the room"
    if target not in STEP:
        return f"imports {target}, which is no room of docs/architecture.md"
    if target in NEVER.get(file.room, ()):
        return f"{file.room} must never import {target}"
    if STEP[target] >= STEP[file.room]:
        return f"{file.room} imports {target}, which is not to its left"
    return ""


@pytest.mark.parametrize("file", sources(), ids=str)
def test_a_room_imports_only_from_rooms_to_its_left(file: Source):
    assert violations(file) == []


@pytest.mark.parametrize("file", sources(), ids=str)
def test_a_room_that_shares_its_name_with_a_verb_is_imported_from_never_as(file: Source):
    """``from netweight import evaluate`` gives the verb; ``from netweight.evaluate import x`` reaches the room."""
    assert [ast.unparse(node) for node in ast.walk(file.tree) if _takes_a_verb_for_a_room(file, node)] == []


def _takes_a_verb_for_a_room(file: Source, node: ast.AST) -> bool:
    rooms = {"compress", "evaluate"}
    if file.room in FRONT:
        return False
    if isinstance(node, ast.ImportFrom):
        return node.module == "netweight" and any(alias.name in rooms for alias in node.names)
    return isinstance(node, ast.Import) and any(
        alias.name in {f"netweight.{room}" for room in rooms} for alias in node.names
    )


def test_the_shared_modules_import_rooms_only_inside_functions():
    for file in sources():
        if file.room in SHARED:
            top = [node for node in file.tree.body if not isinstance(node, ast.FunctionDef | ast.ClassDef)]
            ours = [item.target.split(".") for item in imports(replace(file, tree=ast.Module(top, [])))]
            taken = {parts[1] for parts in ours if parts[0] == "netweight"}
            assert taken <= SHARED, file


@pytest.mark.parametrize(
    ("where", "statement", "complaint"),
    [
        ("models/x.py", "from netweight.data import corpus", "not to its left"),
        ("compress/x.py", "from netweight.evaluate import run", "not to its left"),
        ("evaluate/x.py", "import netweight.models", "must never import models"),
        ("evaluate/metrics/x.py", "def f():\n    from netweight.compress import rtn", "must never import compress"),
        ("artifact/x.py", "from ..compress import gptq", "must never import compress"),
        ("jobs/x.py", "from netweight.cli import main", "not to its left"),
        ("errors.py", "from netweight import formats", "shared module errors imports the room formats"),
        ("data/x.py", "import netweight", "front door"),
        ("data/x.py", "from netweight.utils import x", "no room"),
        ("data/x.py", "from netweight import models, errors\nfrom . import _corpus\nimport torch", ""),
    ],
)
def test_the_check_finds_what_it_should(tmp_path: Path, where: str, statement: str, complaint: str):
    path = tmp_path / where
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(statement)
    found = " ".join(violations(source(path, tmp_path)))
    assert (complaint in found) if complaint else found == ""

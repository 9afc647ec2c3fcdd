"""docs/architecture.md and the package say the same."""

from __future__ import annotations

import re

import pytest

from contracts.source import DOCS, PACKAGE, REPOSITORY, documented_shared_modules, documented_steps


def tree() -> str:
    text = DOCS.read_text(encoding="utf-8")
    return text.split("## Rooms", 1)[1].split("```", 2)[1]


def words(pattern: str) -> set[str]:
    """Names at the start of the tree's lines (those inside src/netweight are indented by two)."""
    heads = (re.split(r"\s{2,}", line.strip(), maxsplit=1)[0] for line in tree().splitlines() if line.startswith("  "))
    return {name for head in heads for name in re.findall(pattern, head)}


def test_the_rooms_of_the_docs_are_the_folders_of_the_package():
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert words(r"(\w+)/") == folders


def test_the_modules_of_the_docs_are_the_files_of_the_package():
    files = {path.name for path in PACKAGE.glob("*.py")} - {"__main__.py"}
    assert {f"{name}.py" for name in words(r"(\w+)\.py")} == files


def test_every_room_has_its_place_in_the_order():
    ordered = {room for step in documented_steps() for room in step}
    assert ordered == words(r"(\w+)/")


def test_every_module_is_shared_or_the_front_door():
    assert words(r"(\w+)\.py") - {"__init__"} == documented_shared_modules()


@pytest.mark.parametrize("path", sorted(REPOSITORY.glob("*.md")) + sorted((REPOSITORY / "docs").rglob("*.md")), ids=str)
def test_a_link_between_documents_leads_somewhere(path):
    for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), f"{path.name} links to {target}"

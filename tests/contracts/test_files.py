"""Every source file: short, quiet, without what breaks other people's machines."""

from __future__ import annotations

import ast
import importlib.util

import pytest

from contracts.source import Source, imports, sources

MOST_LINES = 400
FORBIDDEN = {"torchvision", "timm", "anomalib", "segmentation_models_pytorch"}  # all of them bring torchvision


@pytest.mark.parametrize("file", sources(), ids=str)
def test_a_file_tells_one_story(file: Source):
    assert file.text.count("\n") < MOST_LINES


@pytest.mark.parametrize("file", sources(), ids=str)
def test_a_file_says_what_it_is(file: Source):
    assert ast.get_docstring(file.tree)


@pytest.mark.parametrize("file", [file for file in sources() if file.room != "cli"], ids=str)
def test_only_the_command_line_prints(file: Source):
    calls = [node for node in ast.walk(file.tree) if isinstance(node, ast.Call)]
    assert [c.lineno for c in calls if isinstance(c.func, ast.Name) and c.func.id == "print"] == []


@pytest.mark.parametrize("file", sources(), ids=str)
def test_no_file_is_a_drawer_for_odds_and_ends(file: Source):
    assert file.path.stem.strip("_") not in {"utils", "util", "helpers", "helper", "misc", "common"}


@pytest.mark.parametrize("file", sources(), ids=str)
def test_no_file_swallows_every_error_or_asserts_on_users(file: Source):
    found = [
        node.lineno
        for node in ast.walk(file.tree)
        if isinstance(node, ast.Assert) or (isinstance(node, ast.ExceptHandler) and node.type is None)
    ]
    assert found == []


@pytest.mark.parametrize("file", sources(), ids=str)
def test_no_file_imports_torchvision(file: Source):
    assert FORBIDDEN.isdisjoint(item.target.split(".")[0] for item in imports(file))


def test_torchvision_is_not_installed():
    assert importlib.util.find_spec("torchvision") is None

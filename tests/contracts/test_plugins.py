"""A plug-in is one file, and every file has what docs/architecture.md asks of its room."""

from __future__ import annotations

import ast

import pytest

from contracts.source import Source, names_defined, sources

# Room -> names all of which are defined, and names at least one of which is.
ASKED: dict[str, tuple[set[str], set[str]]] = {
    "formats": ({"NAMES", "parse", "fit", "to_codes", "from_codes"}, set()),
    "models": ({"FAMILY"}, set()),
    "data/_segmentation": ({"SUMMARY", "NAMED", "recognises", "read"}, set()),
    "models/nets": ({"SUMMARY", "SIZES", "UNQUANTIZED", "make"}, set()),
    "compress": ({"SUMMARY", "Settings"}, {"solve", "rescale", "reconstruct", "transform", "rotate"}),
    "evaluate/metrics": ({"SUMMARY", "DATA", "QUANTITIES", "Settings"}, {"measure", "score", "of_masks"}),
}
WANT_STATS = {"solve", "rescale"}


def plugins(room: str) -> list[Source]:
    return [file for file in sources() if str(file).rpartition("/")[0] == room and not file.path.name.startswith("_")]


PLUGINS = [(room, file) for room in ASKED for file in plugins(room)]


@pytest.mark.parametrize(("room", "file"), PLUGINS, ids=lambda value: str(value))
def test_a_plugin_defines_what_its_room_asks(room: str, file: Source):
    every, one_of = ASKED[room]
    defined = names_defined(file.tree)
    assert every <= defined
    assert not one_of or one_of & defined


@pytest.mark.parametrize("file", plugins("compress"), ids=str)
def test_a_method_that_looks_at_inputs_says_which_statistics_it_wants(file: Source):
    defined = names_defined(file.tree)
    assert "STATS" in defined or not (WANT_STATS & defined)


@pytest.mark.parametrize(("room", "file"), PLUGINS, ids=lambda value: str(value))
def test_a_plugin_says_what_it_is(room: str, file: Source):
    assert ast.get_docstring(file.tree)

"""A folder is a registry."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from netweight import registry
from netweight.errors import UnknownName


@pytest.fixture
def room(tmp_path: Path, monkeypatch) -> Iterator[str]:
    folder = tmp_path / "a_room_of_plugins"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "_walk.py").touch()
    (folder / "a_folder_inside").mkdir()
    (folder / "a_folder_inside" / "__init__.py").touch()
    (folder / "gptq.py").write_text("SUMMARY = 'found'")
    (folder / "awq.py").write_text("SUMMARY = 'also found'")
    monkeypatch.syspath_prepend(tmp_path)
    yield folder.name
    for name in [name for name in sys.modules if name.startswith(folder.name)]:
        del sys.modules[name]


def test_names_are_files_and_neither_machinery_nor_folders_are_listed(room: str):
    assert registry.names(room) == ("awq", "gptq")


def test_a_plugin_is_found_by_its_file_name(room: str):
    assert registry.find(room, "gptq").SUMMARY == "found"


def test_listing_loads_no_plugin(room: str):
    registry.names(room)
    assert f"{room}.awq" not in sys.modules


@pytest.mark.parametrize(("name", "said"), [("gptg", "did you mean 'gptq'"), ("_walk", "known: awq, gptq")])
def test_an_unknown_name_gets_the_nearest(room: str, name: str, said: str):
    with pytest.raises(UnknownName, match=said):
        registry.find(room, name)


def test_a_plugin_that_another_thread_is_importing_is_waited_for(room: str, tmp_path: Path):
    (tmp_path / room / "slow.py").write_text("import time\ntime.sleep(0.3)\nSUMMARY = 'whole'\n")
    registry.names(room)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: registry.find(room, "slow").SUMMARY, range(4)))
    assert found == ["whole"] * 4

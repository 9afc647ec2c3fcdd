"""The README's tables are what the benchmark records say."""

from __future__ import annotations

import importlib.util

from contracts.source import PACKAGE

ROOT = PACKAGE.parents[1]


def _tables():
    spec = importlib.util.spec_from_file_location("readme_tables", ROOT / "benchmarks" / "readme_tables.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tables_of_the_readme_are_those_of_the_newest_records():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "<!-- demo -->" in text and "<!-- peers -->" in text
    assert _tables().rendered(text) == text

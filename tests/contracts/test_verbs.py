"""Every verb is a function, a command and a job of one name and one signature."""

from __future__ import annotations

import ast
import importlib
import inspect
from pathlib import Path

import pytest

import netweight
from contracts.source import PACKAGE, source
from netweight import verbs
from netweight.cli._app import VERBS
from netweight.cli._flags import argument_texts

JOBS = [name for name in VERBS if (PACKAGE / "jobs" / f"{name}.py").exists()]


def _shape(arguments: ast.arguments) -> dict[str, object]:
    """Names, kinds and defaults; annotations may be spelt differently."""
    return {
        "positional": [a.arg for a in (*arguments.posonlyargs, *arguments.args)],
        "many": arguments.vararg.arg if arguments.vararg else None,
        "keyword": [a.arg for a in arguments.kwonlyargs],
        "defaults": [ast.unparse(d) for d in arguments.defaults],
        "keyword defaults": [ast.unparse(d) if d else None for d in arguments.kw_defaults],
    }


def _function(path, name: str) -> ast.FunctionDef:
    return next(n for n in source(path).tree.body if isinstance(n, ast.FunctionDef) and n.name == name)


def _verb(name: str) -> ast.FunctionDef:
    """Where it is written: one of the files of ``verbs``."""
    path = inspect.getsourcefile(getattr(verbs, name))
    assert path is not None and Path(path).parent == PACKAGE / "verbs"
    return _function(Path(path), name)


@pytest.mark.parametrize("name", JOBS)
def test_a_job_takes_what_its_verb_takes(name: str):
    job, verb = _function(PACKAGE / "jobs" / f"{name}.py", name), _verb(name)
    assert _shape(job.args) == _shape(verb.args)


@pytest.mark.parametrize("name", VERBS)
def test_a_verb_documents_every_parameter(name: str):
    verb = getattr(verbs, name)
    assert set(argument_texts(verb)) == set(inspect.signature(verb).parameters)


@pytest.mark.parametrize("name", VERBS)
def test_a_verb_delegates_once(name: str):
    body = _verb(name).body[1:]  # without the docstring
    assert [type(statement) for statement in body] == [ast.ImportFrom, ast.Return]


@pytest.mark.parametrize("name", VERBS)
def test_a_verb_is_an_attribute_of_the_package(name: str):
    assert getattr(netweight, name) is getattr(verbs, name)


def test_the_command_line_offers_every_verb():
    public = [name for name, value in vars(verbs).items() if inspect.isfunction(value)]
    assert sorted(public) == sorted(VERBS) == sorted(netweight._VERBS)


@pytest.mark.parametrize(("noun", "room"), netweight._NOUNS.items())
def test_a_noun_is_what_its_room_calls_by_that_name(noun: str, room: str):
    assert getattr(netweight, noun) is getattr(importlib.import_module(f"netweight.{room}"), noun)


def test_what_type_checkers_see_is_what_there_is():
    tree = source(PACKAGE / "__init__.py").tree
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.asname for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen == {*netweight._VERBS, *netweight._NOUNS}

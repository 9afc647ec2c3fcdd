"""Errors form one tree, and name the nearest of what is known."""

from __future__ import annotations

import inspect

from netweight import errors


def classes() -> dict[str, type]:
    return {
        name: value
        for name, value in vars(errors).items()
        if inspect.isclass(value) and value.__module__ == errors.__name__
    }


def test_one_except_clause_catches_everything_raised_on_purpose():
    assert all(issubclass(kind, errors.NetweightError) for kind in classes().values())


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes():
    parents, drawn = {0: "NetweightError"}, {}
    for line in (errors.__doc__ or "").splitlines():
        name = next((word for word in line.replace("─", " ").split() if word in classes()), None)
        if name:
            depth = line.index(name) // 4
            parents[depth] = name
            drawn[name] = parents.get(depth - 1) if name != "NetweightError" else None
    depths = {name: kind.__mro__[1].__name__ for name, kind in classes().items() if name != "NetweightError"}
    assert {name: parent for name, parent in drawn.items() if parent} == depths


def test_the_nearest_name_is_offered():
    assert errors.nearest("dampng", ["order", "damping"]) == "; did you mean 'damping'?"


def test_what_resembles_nothing_gets_the_list():
    assert errors.nearest("xyz", ["order", "damping"]) == "; known: damping, order"


def test_where_nothing_is_known_nothing_is_offered():
    assert errors.nearest("xyz", []) == ""

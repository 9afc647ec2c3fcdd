"""Flags come from signatures: nothing is said twice."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from netweight.cli._flags import Flag, argument_texts, flags, summary

if TYPE_CHECKING:
    Progress = Unknown = Any


def verb(
    model: Unknown,
    parts: Unknown | Sequence[Unknown],
    *,
    out: str | Path,
    formats: Sequence[str] = ("a", "b"),
    preset: Literal["quick", "full"] = "quick",
    threads: int = 0,
    margin: float | None = None,
    dry_run: bool = False,
    batches: Iterable[Any] | None = None,
    progress: Progress | None = None,
):
    """Do it.

    In two paragraphs.

    Args:
      model: folder: or file,
        on two lines.
      parts: more.
    Returns:
      Nothing.
    """


FOUND = {flag.name: flag for flag in flags(verb)}


def test_positional_parameters_are_arguments_and_keyword_only_ones_options():
    assert [flag.name for flag in flags(verb) if flag.kind == "argument"] == ["model", "parts"]


def test_a_parameter_without_default_is_required():
    assert [flag.name for flag in flags(verb) if flag.required] == ["model", "parts", "out"]


def test_what_cannot_be_typed_is_a_path_or_name():
    assert FOUND["model"] == Flag("model", "argument", str, False, True, None, "folder: or file, on two lines.")


def test_a_sequence_may_be_several():
    assert FOUND["parts"].many and FOUND["formats"].many and not FOUND["model"].many


def test_numbers_choices_and_switches_keep_their_type():
    assert FOUND["threads"].type is int
    assert FOUND["margin"].type is float
    assert FOUND["dry_run"].type is bool
    assert FOUND["preset"].type == Literal["quick", "full"]


def test_batches_and_callbacks_are_for_python_only():
    assert {"batches", "progress"}.isdisjoint(FOUND)


def test_the_summary_ends_where_the_sections_begin():
    assert summary(verb) == "Do it.\n\nIn two paragraphs."


def test_only_args_are_read_as_help():
    assert set(argument_texts(verb)) == {"model", "parts"}

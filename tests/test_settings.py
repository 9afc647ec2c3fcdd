"""Settings are strict and frozen; TOML goes in and comes out the same."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from netweight.errors import SettingsError
from netweight.settings import Settings, parse, read_toml, write_toml


class Knobs(Settings):
    damping: float = Field(0.01, gt=0, lt=1)
    order: Literal["natural", "hessian"] = "hessian"
    steps: int = Field(gt=0)


def test_values_are_taken_and_the_rest_has_defaults():
    knobs = parse(Knobs, {"steps": 3, "order": "natural"}, "step 1 (gptq)")
    assert (knobs.steps, knobs.order, knobs.damping) == (3, "natural", 0.01)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"steps": 1, "dampng": 0.02}, "'dampng' is not a setting; did you mean 'damping'?"),
        ({"damping": 0.02}, "'steps' is missing"),
        ({"steps": 0}, "steps = 0"),
        ({"steps": 1, "damping": 1.0}, "damping = 1.0"),
        ({"steps": "1"}, "steps = '1'"),
        ({"steps": True}, "steps = True"),
        ({"steps": 1, "order": "Hessian"}, "order = 'Hessian'"),
    ],
)
def test_an_error_names_the_place_the_key_and_the_value(values, said):
    with pytest.raises(SettingsError) as caught:
        parse(Knobs, values, "step 1 (gptq)")
    assert str(caught.value).startswith("step 1 (gptq): ") and said in str(caught.value)


def test_settings_cannot_be_changed():
    knobs = parse(Knobs, {"steps": 1}, "here")
    with pytest.raises(ValidationError):
        knobs.steps = 2


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "no such file"), (b"a = \n", "line 1"), (b"\xff\xfe", "cannot read")],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content, said):
    path = tmp_path / "r.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match=said) as caught:
        read_toml(path)
    assert "r.toml" in str(caught.value)


SCALAR = (
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]))  # surrogates have no UTF-8 form
)
VALUE = SCALAR | st.lists(SCALAR, max_size=3)
KEY = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
TABLE = st.recursive(
    st.dictionaries(KEY, VALUE, max_size=3),
    lambda inner: st.dictionaries(KEY, VALUE | inner | st.lists(inner, min_size=1, max_size=2), max_size=3),
    max_leaves=6,
)


@given(TABLE)
def test_what_is_written_is_read_back(table):
    assert tomllib.loads(write_toml(table)) == table


def test_tables_and_lists_of_tables_are_written_as_people_write_them():
    table = {"seed": 0, "calibration": {"length": 512}, "step": [{"use": "awq"}, {"use": "gptq", "skip": ["lm_head"]}]}
    want = 'seed = 0\n\n[calibration]\nlength = 512\n\n[[step]]\nuse = "awq"\n\n[[step]]\nuse = "gptq"\nskip = ["lm_head"]\n'
    assert write_toml(table) == want


def test_what_toml_cannot_hold_is_refused():
    with pytest.raises(SettingsError, match="no TOML form"):
        write_toml({"x": [object()]})

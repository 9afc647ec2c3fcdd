"""A recipe is an ordered list of steps plus a seed; it is read strictly and written completely."""

from __future__ import annotations

import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pydantic import Field

from netweight import recipe
from netweight.errors import SettingsError, UnknownName
from netweight.recipe import Recipe, Step
from netweight.settings import Settings


class Knobs(Settings):
    damping: float = Field(0.01, gt=0, lt=1)


@pytest.fixture(autouse=True)
def room(monkeypatch):
    """Two methods that exist only here: ``scale`` rescales, ``round`` needs a format."""
    plugins = {"scale": ModuleType("scale"), "round": ModuleType("round")}
    for plugin in plugins.values():
        plugin.Settings = Knobs  # type: ignore[attr-defined]
    plugins["round"].solve = lambda: None  # type: ignore[attr-defined]

    def find(package: str, name: str) -> ModuleType:
        if name not in plugins:
            raise UnknownName(f"{name!r} is not in compress")
        return plugins[name]

    monkeypatch.setattr("netweight.registry.find", find)
    monkeypatch.setattr("netweight.registry.names", lambda package: tuple(plugins))


def table(**changes: Any) -> dict[str, Any]:
    step = {"use": "scale", "skip": ["lm_head"], "damping": 0.02}
    return {"seed": 7, "calibration": {"samples": 4}, "step": [step]} | changes


def test_a_table_becomes_steps_with_every_setting_filled_in():
    found = recipe.load(table())
    assert (found.seed, found.calibration.samples, found.calibration.length) == (7, 4, 512)
    assert found.steps == (Step("scale", None, (), ("lm_head",), Knobs(damping=0.02)),)


def test_a_file_is_named_after_itself_unless_it_says_otherwise(tmp_path: Path):
    path = tmp_path / "tiny_scale.toml"
    path.write_text('[[step]]\nuse = "scale"\n')
    assert recipe.load(path).name == "tiny_scale"
    assert recipe.load(str(path)).seed == 0


def test_what_is_written_is_the_same_recipe_with_its_defaults_spelt_out():
    first = recipe.load(table(step=[{"use": "scale"}]))
    again = recipe.load(tomllib.loads(first.to_toml()))
    assert again == first and again.sha256 == first.sha256
    assert "damping = 0.01" in first.to_toml()


def test_a_recipe_passes_through():
    first = recipe.load(table())
    assert recipe.load(first) is first


def test_the_hash_changes_with_every_setting():
    hashes = {recipe.load(table(**change)).sha256 for change in ({}, {"seed": 8}, {"calibration": {"samples": 5}})}
    assert len(hashes) == 3


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sed": 1}, "'sed' is not a setting; did you mean 'seed'?"),
        ({"seed": -1}, "seed = -1"),
        ({"seed": True}, "seed = True"),
        ({"seed": 2**63}, "seed = 9223372036854775808"),
        ({"step": []}, "at least one"),
        ({"step": [{"format": "nvfp4"}]}, "step 1: needs use"),
        ({"step": [{"use": "rounds"}]}, "'rounds' is not in compress"),
        ({"step": [{"use": "round"}]}, "step 1 (round): needs format"),
        ({"step": [{"use": "scale", "format": 4}]}, "format = 4"),
        ({"step": [{"use": "scale"}, {"use": "scale", "dampng": 1}]}, "step 2 (scale): 'dampng' is not a setting"),
        ({"step": [{"use": "scale", "only": "lm_head"}]}, "only = 'lm_head': must be a list"),
        ({"step": [{"use": "scale", "only": ["re:("]}]}, "not a regular expression"),
        ({"calibration": {"sample": 4}}, "[calibration]: 'sample' is not a setting; did you mean 'samples'?"),
        ({"calibration": {"samples": 0}}, "samples = 0"),
    ],
)
def test_a_mistake_is_named_with_its_place(changes: dict[str, Any], said: str):
    with pytest.raises(SettingsError) as caught:
        recipe.load(table(**changes))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("pattern", "name", "want"),
    [
        ("*.down_proj", "model.layers.0.mlp.down_proj", True),
        ("*.down_proj", "model.layers.0.mlp.down_proj.weight", False),
        ("lm_head", "LM_HEAD", False),
        ("re:.*\\.[01]\\..*", "model.layers.1.mlp", True),
        ("re:layers", "model.layers", False),
    ],
)
def test_a_pattern_is_about_the_whole_name(pattern: str, name: str, want: bool):
    assert recipe.matches(pattern, name) is want


@pytest.mark.parametrize(
    ("only", "skip", "default", "want"),
    [
        ((), (), True, True),
        ((), (), False, False),
        (("a*",), (), False, True),
        (("b*",), (), True, False),
        (("a*",), ("ab",), True, False),
        ((), ("ab",), True, False),
    ],
)
def test_skip_wins_over_only_and_only_over_the_default(only, skip, default, want):
    assert Step("scale", None, only, skip, Knobs(damping=0.5)).selects("ab", default=default) is want


def test_a_pattern_that_matches_nothing_is_reported_with_the_nearest_name():
    steps = recipe.load(table(step=[{"use": "scale", "only": ["a", "re:b.*"], "skip": ["lm_heat"]}])).steps
    (found,) = recipe.unmatched(steps, ["a", "bb", "lm_head"])
    assert found == "step 1 (scale): skip pattern 'lm_heat' matches no layer; did you mean 'lm_head'?"


def test_the_plugin_of_a_step_is_its_file():
    assert recipe.load(table()).steps[0].plugin.Settings is Knobs
    assert Recipe(()).calibration.source == "pydoc-topics/train"

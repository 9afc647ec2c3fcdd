"""What a recipe means for each layer, and what is said of what it cannot mean."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

import tiny
from netweight import recipe as recipes
from netweight.compress import plan
from netweight.errors import FormatError, PartialError


@dataclass(frozen=True)
class Layer:
    name: str
    kind: str
    shape: tuple[int, int]
    block: str | None
    tied_to: str = ""


def layers(*, tied: bool = True) -> dict[str, Layer]:
    inside = [
        Layer(f"blocks.{n}.{name}", "linear", shape, f"blocks.{n}")
        for n in (0, 1)
        for name, shape in (("up", (96, 64)), ("down", (64, 96)))
    ]
    embed = Layer("embed", "embedding", (128, 64), None)
    head = Layer("lm_head", "linear", (128, 64), None, "embed" if tied else "")
    return {layer.name: layer for layer in (embed, *inside, head)}


FEEDS = (("blocks.0.up",), ("blocks.1.up",))


def planned(*steps, tied: bool = True, **options):
    return plan(recipes.load(tiny.recipe(*steps)), layers(tied=tied), feeds=FEEDS, **options)


def test_a_step_without_patterns_means_the_layers_inside_blocks():
    found = planned(tiny.step("rtn", "int4-g32")).assignments
    assert [name for name, a in found.items() if a.rounding] == [
        f"blocks.{n}.{w}" for n in (0, 1) for w in ("up", "down")
    ]
    assert found["embed"].reason == found["lm_head"].reason == "outside the blocks and not named in `only`"


def test_a_skipped_layer_says_that_no_step_selects_it():
    found = planned(tiny.step("rtn", "int4-g32", skip=["*.0.up"])).assignments
    assert found["blocks.0.up"].reason == "no step selects it"


def test_the_last_step_that_selects_a_layer_rounds_it():
    found = planned(tiny.step("rtn", "int4-g32"), tiny.step("mse_clip", "int3-g32", only=["*.down"])).assignments
    assert (found["blocks.0.up"].step_names, found["blocks.0.down"].step_names) == (("rtn",), ("mse_clip",))


@pytest.mark.parametrize(
    "pattern, hint", [("*.donw", "'*.down'"), ("lm_haed", "'lm_head'"), ("blocks.0.pu", "'blocks.0.up'")]
)
def test_a_pattern_that_matches_nothing_offers_the_nearest(pattern, hint):
    with pytest.raises(PartialError, match=r"matches no layer; did you mean ") as caught:
        planned(tiny.step("rtn", "int4-g32"), tiny.step("rtn", "int8-g32", only=["*.up", pattern]))
    assert hint in str(caught.value)


def test_a_pattern_near_to_nothing_lists_endings_and_not_every_layer():
    with pytest.raises(PartialError) as caught:
        planned(tiny.step("rtn", "int4-g32", skip=["zzzzzzzzzz"]))
    assert r"known: *.down, *.embed, *.lm_head, *.up" in str(caught.value)


def test_a_format_that_does_not_fit_names_every_layer_and_the_groups_that_would():
    with pytest.raises(FormatError) as caught:
        planned(tiny.step("rtn", "int4-g64"))
    message = str(caught.value)
    assert message.startswith("2 layers do not fit their format:")
    assert "blocks.0.down: int4-g64: group 64 does not divide 96 columns (groups that do: 16, 32, 96)" in message
    assert "blocks.1.down" in message and "blocks.0.up" not in message


def test_with_allow_partial_a_misfit_is_left_with_the_reason():
    found = planned(tiny.step("rtn", "int4-g64"), allow_partial=True)
    assert found.assignments["blocks.0.down"].rounding is None
    assert "does not divide 96" in found.assignments["blocks.0.down"].reason
    assert len(found.problems) == 2


def test_steps_that_only_rescale_are_refused():
    with pytest.raises(PartialError, match="blocks.0.up: smoothquant only rescale; add a rounding step"):
        planned(tiny.step("smoothquant"))


def test_a_step_whose_layers_are_all_rounded_by_a_later_one_is_refused():
    with pytest.raises(PartialError, match=r"step 1 \(rtn\): no layer is left for it"):
        planned(tiny.step("rtn", "int4-g32"), tiny.step("gptq", "int3-g32"))


def test_a_rescaling_step_after_the_one_that_rounds_is_refused():
    with pytest.raises(PartialError, match=r"step 2 \(smoothquant\): .* must come before the step that rounds"):
        planned(tiny.step("rtn", "int4-g32"), tiny.step("smoothquant"))


def test_a_rescaling_step_that_nothing_can_take_up_is_refused():
    steps = (tiny.step("smoothquant", only=["*.down"]), tiny.step("rtn", "int4-g32"))
    with pytest.raises(PartialError, match=r"step 1 \(smoothquant\): nothing before the layers it selects can take up"):
        planned(*steps)
    assert not planned(tiny.step("smoothquant"), tiny.step("rtn", "int4-g32")).problems


@pytest.mark.parametrize("name", ["embed", "lm_head"])
def test_a_method_that_needs_inputs_is_refused_for_an_embedding_and_what_shares_it(name):
    with pytest.raises(PartialError, match="gptq needs the layer's inputs, and an embedding's are one-hot"):
        planned(tiny.step("gptq", "int4-g32", only=[name]))


def test_an_untied_head_may_have_any_method():
    found = planned(tiny.step("gptq", "int4-g32", only=["lm_head"]), tied=False)
    assert found.assignments["lm_head"].step_names == ("gptq",) and found.needs_data

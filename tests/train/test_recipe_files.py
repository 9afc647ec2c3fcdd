"""The training recipes that come with the project: each loads, says what it is called, and its net builds and rounds."""

from __future__ import annotations

from pathlib import Path

import pytest

from netweight import models
from netweight.errors import SettingsError
from netweight.train import load_recipe, quantize

FOLDER = Path(__file__).parents[2] / "recipes" / "seg"
FILES = sorted(FOLDER.glob("*.toml"))
NETS = ("cnn", "depthwise", "efficientnet", "swin", "vit")


def test_every_net_has_a_baseline_and_an_fp4_recipe():
    assert [file.stem for file in FILES] == [
        f"{net}-500k_{qat}" for net in NETS for qat in ("baseline", "nvfp4-2d-rht-sr")
    ]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_recipe_is_what_its_name_says_and_its_net_builds(file: Path):
    recipe = load_recipe(file)
    net, size = recipe.net.use, recipe.net.size
    assert file.stem == f"{net}-{size}_{recipe.qat.use}" and recipe.name == f"{net} {size}, {recipe.qat.use}"
    module = models.nets.build(net, size, image=recipe.data.size or 0, seed=recipe.seed)
    assert sum(p.numel() for p in module.parameters()) == pytest.approx(500_000, rel=0.1)
    quantized = quantize(module, recipe.qat.use, skip=models.nets.unquantized(net), seed=recipe.seed)
    assert bool(quantized.layers()) == (recipe.qat.use != "baseline")


@pytest.mark.parametrize("net", NETS)
def test_a_net_s_recipes_differ_in_arithmetic_and_name_alone(net: str):
    one, other = (load_recipe(FOLDER / f"{net}-500k_{qat}.toml").to_table() for qat in ("baseline", "nvfp4-2d-rht-sr"))
    assert {key for key in one if one[key] != other[key]} == {"qat", "name"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_schedule_is_that_of_the_paper(file: Path):
    """arXiv 2605.27616, the authors' code."""
    training, net = load_recipe(file).training, load_recipe(file).net.use
    rates = ("adamw", 1e-4, 1e-4) if net in ("vit", "swin") else ("adamax", 5e-4, 0.0)
    assert (training.optimizer, training.lr, training.weight_decay) == rates
    assert (training.epochs, training.batch, training.clip) == (100, 32, 1.0)
    assert (training.patience, training.stop_after, training.stop_from, training.min_delta) == (10, 20, 40, 1e-3)
    assert training.augment and training.slices is None and training.positive is None


@pytest.mark.parametrize(
    "given, words",
    [
        ({"use": "holdout", "fold": 2}, r"\[data\.split\]: fold is for use = 'folds', and use is 'holdout'"),
        ({"site": "CS"}, "site is for use = 'leave-one-site-out'"),
        ({"use": "folds", "shares": [0.5, 0.25, 0.25]}, "shares is for use = 'holdout'"),
    ],
)
def test_a_setting_of_another_way_to_divide_patients_is_refused(given, words):
    with pytest.raises(SettingsError, match=words):
        load_recipe({"net": {"use": "vit"}, "data": {"split": given}})


def test_a_recipe_with_every_setting_written_out_is_read_again():
    recipe = load_recipe({"net": {"use": "vit"}, "data": {"split": {"use": "folds", "fold": 2}}})
    assert load_recipe(recipe.to_table()) == recipe and recipe.data.split.fold == 2

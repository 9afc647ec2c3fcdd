"""Recipes: how they are found, and what must hold between them."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from netweight.errors import SettingsError, UnknownName
from netweight.train import Operand, Qat, catalogue, quantize, recipe

NAMES = [row.name for row in catalogue()]
STUDY = NAMES[:8]


def net() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1),
        nn.Conv2d(32, 48, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(48, 32, 2, stride=2),
        nn.Flatten(2),
        nn.Linear(64, 32),
    )


def run(
    module: nn.Module, name: str | Qat, *, step: int = 0, seed: int = 0
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Output and gradients of one pass under a recipe."""
    module = copy.deepcopy(module)
    quantize(module, name, seed=seed).step = step
    x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    y = module(x)
    y.square().mean().backward()
    return y.detach(), {n: p.grad for n, p in module.named_parameters() if p.grad is not None}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[n], b[n]) for n in a)


def test_the_study_has_eight_and_names_are_unique():
    assert STUDY == [
        "baseline",
        "nvfp4",
        "nvfp4-forward",
        "nvfp4-chain",
        "nvfp4-2d-rht",
        "nvfp4-2d-rht-sr",
        "nvfp4-sr",
        "nvfp4-forward-rht",
    ]
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_trains_and_says_what_it_is(name):
    row = recipe(name)
    assert row.summary and row.source
    y, gradients = run(net(), name)
    plain, exact = run(net(), "baseline")
    assert y.isfinite().all() and all(g.isfinite().all() for g in gradients.values())
    assert torch.equal(y, plain) != row.rounds
    if row.rounds:
        cosine = torch.cosine_similarity(gradients["1.weight"].flatten(), exact["1.weight"].flatten(), 0)
        assert (
            cosine > 0.8
        )  # rounded gradients still point where exact ones do; scales that are to be learned start coarse


def test_a_transform_of_unrounded_operands_cancels():
    """Recipe 7 is recipe 2."""
    a, b = run(net(), "nvfp4-forward"), run(net(), "nvfp4-forward-rht")
    assert torch.equal(a[0], b[0]) and same(a[1], b[1])


def test_the_chain_rules_recipe_differs_in_gradients_only():
    """Recipe 3 against recipe 2: the last layer's own gradient differs too, since it reads rounded inputs."""
    a, b = run(net(), "nvfp4-forward"), run(net(), "nvfp4-chain")
    assert torch.equal(a[0], b[0])
    assert not torch.equal(a[1]["5.weight"], b[1]["5.weight"]) and not torch.equal(a[1]["0.weight"], b[1]["0.weight"])
    assert torch.equal(a[1]["5.bias"], b[1]["5.bias"])


def test_stochastic_rounding_is_all_that_parts_recipe_5_from_recipe_4():
    row = recipe("nvfp4-2d-rht-sr")
    nearest = {r: Operand(o.format, "nearest", o.hadamard, o.rule) for r, o in row.operands().items()}  # pyright: ignore
    a, b = run(net(), Qat("5 without", **nearest)), run(net(), "nvfp4-2d-rht")
    assert torch.equal(a[0], b[0]) and same(a[1], b[1])
    drawn = run(net(), row)
    assert torch.equal(drawn[0], b[0]) and not same(drawn[1], b[1])


def test_draws_average_to_the_unrounded_gradient():
    """With nothing but a stochastically rounded G, the mean over steps nears the exact weight gradient; to the nearest it does not."""
    layer = nn.Sequential(nn.Linear(32, 32, bias=False))
    drawn = Qat("drawn", wgrad_g=Operand("nvfp4", "stochastic", rule="four-over-six"))
    x, g = torch.randn(64, 32), torch.randn(64, 32) ** 3

    def gradient(row: Qat, step: int) -> torch.Tensor:
        module = copy.deepcopy(layer)
        quantize(module, row).step = step
        module(x).backward(g)
        return module[0].weight.grad

    exact = g.T @ x
    single = (gradient(drawn, 0) - exact).norm()
    mean = (torch.stack([gradient(drawn, step) for step in range(400)]).mean(0) - exact).norm()
    assert mean < 2 * single / 20  # twice the standard error of 400 draws
    nearest = Qat("nearest", wgrad_g=Operand("nvfp4", rule="four-over-six"))
    assert torch.equal(gradient(nearest, 0), gradient(nearest, 1))  # its mean is itself
    assert (gradient(nearest, 0) - exact).norm() > 3 * mean


def test_draws_depend_on_seed_step_and_layer():
    first = run(net(), "nvfp4-sr", step=1, seed=1)[1]
    assert same(first, run(net(), "nvfp4-sr", step=1, seed=1)[1])
    assert not same(first, run(net(), "nvfp4-sr", step=2, seed=1)[1])
    assert not same(first, run(net(), "nvfp4-sr", step=1, seed=2)[1])


def test_a_second_run_within_a_step_draws_anew_and_the_step_begins_them_again():
    layer = nn.Linear(32, 32)
    quantized, x, g = quantize(layer, "nvfp4-sr"), torch.randn(64, 32), torch.randn(64, 32)

    def gradient() -> torch.Tensor:
        layer.weight.grad = None
        layer(x).backward(g)
        return layer.weight.grad.clone()

    quantized.step = 5
    first, second = gradient(), gradient()
    quantized.step = 5
    assert not torch.equal(first, second) and torch.equal(first, gradient())


def test_an_unknown_name_offers_the_nearest():
    with pytest.raises(UnknownName, match="nvfp4-chain"):
        recipe("nvfp4-chian")


def test_a_recipe_from_a_file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        'name = "mine"\nbase = "nvfp4-2d-rht"\ndgrad_w = "forward"\n'
        '[wgrad_g]\nformat = "nvfp4"\nrounding = "stochastic"\nrule = "clip:0.9"\n[reset]\nstart = 10\n'
    )
    row = recipe(path)
    assert (row.name, row.dgrad_w, row.wgrad_x) == ("mine", "forward", recipe("nvfp4-2d-rht").wgrad_x)
    assert row.wgrad_g == Operand("nvfp4", "stochastic", rule="clip:0.9")
    assert row.reset is not None and row.reset.start == 10 and row.reset.every == 200


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('name = "x"\nforward_y = 1', "did you mean 'forward_"),
        ('name = "x"\n[forward_x]\nfromat = "nvfp4"', "fromat"),
        ('name = "x"\n[forward_x]\nformat = "nvfp4-2d"', "which only weights take"),
        ('name = "x"\n[forward_x]\nformat = "nvfp5"', "nvfp4"),
        ('name = "x"\n[forward_x]\nformat = "mxfp4"\nrule = "four-over-six"', "four-over-six"),
        ('name = "x"\nforward_x = "forward"', "forward_x"),
        ('name = "x"\nbase = "nvpf4"', "nvfp4"),
        ('base = "nvfp4"', "name"),
    ],
)
def test_a_file_that_makes_no_sense_says_why(tmp_path, text, message):
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=message):
        recipe(path)

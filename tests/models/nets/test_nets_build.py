"""Every net: its size, its initial weights, what it takes and gives, and which of its layers fit blocks of sixteen."""

from __future__ import annotations

import copy

import pytest
import torch

from netweight import models
from netweight.errors import DataError, ModelError, SettingsError, UnknownName
from netweight.models import nets
from netweight.recipe import matches

OURS = ("cnn", "depthwise", "efficientnet", "swin", "vit")
# Du & Rybakov, arXiv 2605.27616, the authors' code: parameters at 256 pixels.
COUNTS = {
    "cnn": {"500k": 530_753, "4m": 3_684_481, "15m": 13_674_529},
    "vit": {"500k": 494_473, "4m": 3_634_921, "15m": 13_880_777},
    "swin": {"500k": 496_305, "4m": 3_646_687, "15m": 13_987_513},
}
BUDGETS = {"500k": 507_000, "4m": 3_655_000, "15m": 13_850_000}
ALL = [(name, size) for name in OURS for size in BUDGETS]
DIM = {"500k": 64, "4m": 192, "15m": 448}
HEADS = {"vit": {"500k": 2, "4m": 6, "15m": 14}, "swin": {"500k": 4, "4m": 6, "15m": 14}}
DEPTH = {"500k": 10, "4m": 9, "15m": 8}
WINDOW = {"500k": 4, "4m": 8, "15m": 16}


def count(net: torch.nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def images(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(7))


@pytest.fixture(scope="module")
def small() -> dict[str, nets.Net]:
    return {name: nets.build(name, "500k", image=128, seed=3).eval() for name in OURS}


def positions(name: str, size: str, image: int) -> int:
    """Numbers in a transformer's tables of positions."""
    tokens = (image // 16) ** 2
    if name == "vit":
        return (1 + tokens) * DIM[size]
    window = min(WINDOW[size], image // 16)
    return tokens * DIM[size] + DEPTH[size] * HEADS[name][size] * (2 * window - 1) ** 2


@pytest.mark.parametrize(("name", "size"), [(n, s) for n in COUNTS for s in BUDGETS])
def test_the_nets_of_the_study_have_its_parameters_to_the_last(name, size):
    assert count(nets.build(name, size, seed=0)) == COUNTS[name][size]


@pytest.mark.parametrize(("name", "size"), [(n, s) for n in ("vit", "swin") for s in BUDGETS])
def test_smaller_images_shrink_the_tables_of_positions_and_nothing_else(name, size):
    fewer = positions(name, size, 256) - positions(name, size, 128)
    assert count(nets.build(name, size, image=128, seed=0)) == COUNTS[name][size] - fewer


@pytest.mark.parametrize(("name", "size"), [(n, s) for n in ("vit", "swin") for s in BUDGETS])
def test_half_the_patch_on_half_the_image_leaves_out_three_quarters_of_the_filters_and_a_stage(name, size):
    dim = DIM[size]
    filters = 3 * (16**2 - 8**2) * dim
    eighth, sixteenth = max(8, dim // 8), max(8, dim // 16)
    stage = 4 * eighth * sixteenth + 3 * sixteenth  # weights, bias, and the norm's two
    last = sixteenth - eighth  # of the 1 x 1 convolution to one channel
    net = nets.build(name, size, image=128, patch=8, seed=0)
    assert count(net) == COUNTS[name][size] - filters - stage - last
    assert nets.describe(net) == {"name": name, "size": size, "image": 128, "channels": 3, "patch": 8, "seed": 0}
    assert count(nets.build(**nets.describe(net))) == count(net)


@torch.no_grad()
@pytest.mark.parametrize("name", ["vit", "swin"])
def test_a_patch_of_the_study_is_the_one_it_has_without_a_word(name):
    said, unsaid = (nets.build(name, "500k", image=64, seed=1, **given).eval() for given in ({"patch": 16}, {}))
    assert torch.equal(said(images(2, 3, 64, 64)), unsaid(images(2, 3, 64, 64)))
    small = nets.build(name, "500k", image=32, patch=4, seed=1).eval()
    assert small(images(2, 3, 32, 32)).shape == (2, 1, 32, 32)


@pytest.mark.parametrize("name", ["cnn", "depthwise", "efficientnet"])
def test_a_convolutional_net_has_as_many_parameters_at_every_image_size(name):
    assert count(nets.build(name, "500k", image=128, seed=0)) == count(nets.build(name, "500k", seed=0))


@pytest.mark.parametrize(("name", "size"), [(n, s) for n in ("depthwise", "efficientnet") for s in BUDGETS])
def test_our_own_nets_keep_to_the_budgets(name, size):
    assert count(nets.build(name, size, seed=0)) == pytest.approx(BUDGETS[size], rel=0.05)


def test_every_net_is_listed_with_its_sizes_smallest_first():
    assert set(OURS) | {"monai-unet", "monai-swinunetr"} == set(nets.names())
    assert all(nets.sizes(name) == ("500k", "4m", "15m") for name in OURS)


@pytest.mark.parametrize("name", OURS)
def test_initial_weights_are_a_function_of_the_description(name, small):
    torch.manual_seed(12345)
    again = nets.build(**nets.describe(small[name]))
    other = nets.build(name, "500k", image=128, seed=4)
    pairs = zip(small[name].state_dict().values(), again.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not torch.equal(next(other.parameters()), next(again.parameters()))
    assert nets.describe(again) == {"name": name, "size": "500k", "image": 128, "channels": 3, "seed": 3}


@pytest.mark.parametrize("name", OURS)
def test_building_leaves_the_random_generator_as_it_was(name):
    torch.manual_seed(5)
    want = torch.rand(3)
    torch.manual_seed(5)
    nets.build(name, "500k", image=64, seed=9)
    assert torch.equal(torch.rand(3), want)


@pytest.mark.parametrize("name", OURS)
def test_in_training_dropout_follows_the_global_seed(name, small):
    net = copy.deepcopy(small[name]).train()
    outputs = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        outputs.append(net(images(2, 3, 128, 128)))
    assert torch.equal(outputs[0], outputs[1])
    assert torch.equal(outputs[0], outputs[2]) == (name in ("depthwise", "efficientnet"))  # these two have none


@pytest.mark.parametrize("name", OURS)
def test_logits_are_one_map_of_the_images_size_and_images_do_not_mix(name, small):
    batch = images(3, 3, 128, 128)
    logits = small[name](batch)
    assert logits.shape == (3, 1, 128, 128) and logits.dtype == torch.float32
    assert torch.allclose(small[name](batch[1:2]), logits[1:2], atol=1e-4)  # sums run in another order
    assert logits.std() > 0.05


@pytest.mark.parametrize("name", OURS)
def test_a_gradient_reaches_every_parameter(name, small):
    net = copy.deepcopy(small[name])
    net(images(2, 3, 128, 128)).square().sum().backward()
    without = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("shape", [(1, 3, 64, 64), (1, 1, 128, 128), (3, 128, 128), (1, 3, 128, 96)])
def test_images_that_do_not_fit_are_refused_with_the_shape_that_does(name, shape, small):
    with pytest.raises(DataError, match=r"takes \(B, 3, 128, 128\)"):
        small[name](torch.zeros(shape))


def test_images_must_be_floats(small):
    with pytest.raises(DataError, match="uint8"):
        small["cnn"](torch.zeros(1, 3, 128, 128, dtype=torch.uint8))


@pytest.mark.parametrize(
    ("name", "size", "image", "near"),
    [("cnn", "15m", 192, "128, such as 128 or 256"), ("cnn", "15m", 96, "128, such as 128$"), ("vit", "500k", 100, "16, such as 96 or 112"),
     ("swin", "4m", 192, "128, such as 128 or 256"), ("depthwise", "500k", 80, "32, such as 64 or 96")],
)  # fmt: skip
def test_a_side_that_does_not_divide_is_refused_with_one_that_does(name, size, image, near):
    with pytest.raises(SettingsError, match=f"image = {image}.*multiples of {near}"):
        nets.build(name, size, image=image, seed=0)


@pytest.mark.parametrize(
    ("name", "patch", "said"), [("swin", 12, "patch = 12 is not one of swin's, 4, 8, 16"), ("cnn", 8, "patch = 8, but cnn takes no patch"),
     ("vit", 0, "patch")],
)  # fmt: skip
def test_a_patch_that_a_net_does_not_have_is_refused(name, patch, said):
    with pytest.raises(SettingsError, match=said):
        nets.build(name, "500k", image=96, patch=patch, seed=0)


@pytest.mark.parametrize(("name", "usual"), [("cnn", 0.5), ("vit", 0.1), ("swin", 0.1)])
def test_dropout_as_given_changes_training_alone(name, usual):
    unsaid, said, none = (
        nets.build(name, "500k", image=64, seed=1, **given) for given in ({}, {"dropout": usual}, {"dropout": 0})
    )
    images = torch.rand(4, 3, 64, 64)
    logits = [torch.random.manual_seed(3) and net(images) for net in (unsaid, said, none, none)]
    assert torch.equal(logits[0], logits[1]) and not torch.equal(logits[0], logits[2])
    torch.random.manual_seed(4)
    assert torch.equal(none(images), logits[3])  # nothing is drawn
    assert all(torch.equal(a, b) for a, b in zip(unsaid.parameters(), none.parameters(), strict=True))
    assert nets.describe(none)["dropout"] == 0 and "dropout" not in nets.describe(unsaid)


def test_without_dropout_a_transformer_trains_on_what_it_is_judged_by():
    net = nets.build("swin", "500k", image=64, dropout=0, seed=1)  # it has no batch norm, by which modes would differ
    images = torch.rand(2, 3, 64, 64)
    assert torch.equal(net(images), net.eval()(images))


@pytest.mark.parametrize(
    ("name", "dropout", "said"),
    [("depthwise", 0.1, "dropout = 0.1, but depthwise takes no dropout"), ("monai-unet", 0.0, "takes no dropout"),
     ("vit", 1, "less than 1"), ("vit", -0.1, "greater than or equal to 0")],
)  # fmt: skip
def test_a_dropout_that_a_net_does_not_have_is_refused(name, dropout, said):
    size = nets.sizes(name)[0]
    with pytest.raises(SettingsError, match=said):
        nets.build(name, size, image=64, dropout=dropout, seed=0)


@pytest.mark.parametrize(
    ("name", "size", "said"),
    [("swim", "500k", "did you mean 'swin'"), ("swin", "5m", "did you mean '15m'|did you mean '4m'"), ("_build", "4m", "is not in nets"),
     ("monai_unet", "4m", "did you mean 'monai-unet'")],
)  # fmt: skip
def test_an_unknown_name_or_size_gets_the_nearest(name, size, said):
    with pytest.raises(UnknownName, match=said):
        nets.build(name, size, seed=0)


@pytest.mark.parametrize(("key", "value"), [("seed", -1), ("image", 0), ("channels", 0)])
def test_a_description_has_limits(key, value):
    with pytest.raises(SettingsError, match=key):
        nets.build("cnn", "500k", **{"seed": 0, key: value})


def test_other_modules_have_no_description():
    with pytest.raises(ModelError, match="not made by models.nets.build"):
        nets.describe(torch.nn.Linear(2, 2))


@pytest.mark.parametrize("name", OURS)
def test_images_of_one_channel_fit_a_net_built_for_them(name):
    net = nets.build(name, "500k", image=64, channels=1, seed=0).eval()
    assert net(images(2, 1, 64, 64)).shape == (2, 1, 64, 64)


@pytest.mark.parametrize(("name", "size"), ALL)
def test_what_is_rounded_reads_and_gives_multiples_of_sixteen(name, size):
    net = nets.build(name, size, seed=0)
    layers = models.layers(models.load(net))
    chosen = [n for n in layers if not any(matches(p, n) for p in nets.unquantized(name))]
    assert sum(layers[n].shape[0] * layers[n].shape[1] for n in chosen) > 0.6 * count(net)
    for layer in chosen:
        module = net.get_submodule(layer)
        widths = [getattr(module, f"{way}_{kind}", 0) for way in ("in", "out") for kind in ("features", "channels")]
        assert all(width % 16 == 0 for width in widths) and getattr(module, "groups", 1) == 1, layer


@pytest.mark.parametrize("name", OURS)
def test_every_pattern_of_what_is_left_matches_a_layer(name, small):
    layers = models.layers(models.load(small[name]))
    assert all(any(matches(p, n) for n in layers) for p in nets.unquantized(name))


def test_the_study_rounds_four_layers_of_a_block_and_no_other_layer_of_a_transformer(small):
    for name in ("vit", "swin"):
        layers = models.layers(models.load(small[name]))
        chosen = {n for n in layers if not any(matches(p, n) for p in nets.unquantized(name))}
        assert chosen == {
            f"blocks.{b}.{n}" for b in range(10) for n in ("attention.qkv", "attention.proj", "fc1", "fc2")
        }


def test_the_study_leaves_three_convolutions_of_the_cnn(small):
    layers = models.layers(models.load(small["cnn"]))
    assert {n for n in layers if any(matches(p, n) for p in nets.unquantized("cnn"))} == {
        "first.conv",
        "bottleneck.conv",
        "last",
    }
    assert len(layers) == 8


@pytest.mark.parametrize("name", OURS)
def test_weights_saved_are_the_whole_net(name, small, tmp_path):
    torch.save(small[name].state_dict(), tmp_path / "net.pt")
    other = nets.build(name, "500k", image=128, seed=11).eval()
    other.load_state_dict(torch.load(tmp_path / "net.pt"))
    assert torch.equal(other(images(1, 3, 128, 128)), small[name](images(1, 3, 128, 128)))


def test_a_chance_just_below_1_drops_nearly_all():
    net = nets.build("vit", "500k", image=64, dropout=1 - 1e-7, seed=0)
    assert net(torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))).isfinite().all()

"""What a layer reads is rounded along its channels: where those are, and that it is what training simulated."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from netweight import formats, models
from netweight.errors import ModelError
from netweight.train import Operand, Qat, quantize

# With and without a batch; sides differ from one another and from the channels, so that no other axis would do.
LAYERS = [
    (nn.Linear(48, 16), [(4, 48), (4, 3, 48), (48,)]),
    (nn.Conv1d(48, 16, 3), [(4, 48, 7), (48, 7)]),
    (nn.Conv2d(48, 16, 3, padding=1), [(4, 48, 5, 6), (48, 5, 6)]),
    (nn.Conv2d(128, 32, 3, groups=2, stride=2), [(4, 128, 5, 6), (128, 5, 6)]),  # groups of whole blocks
    (nn.Conv3d(48, 16, 2), [(4, 48, 3, 4, 5), (48, 3, 4, 5)]),
    (nn.ConvTranspose1d(48, 16, 2, stride=2), [(4, 48, 7), (48, 7)]),
    (nn.ConvTranspose2d(48, 16, 2, stride=2), [(4, 48, 5, 6), (48, 5, 6)]),
    (nn.ConvTranspose3d(48, 16, 2), [(4, 48, 3, 4, 5), (48, 3, 4, 5)]),
]
CASES = [
    pytest.param(layer, shape, id=f"{type(layer).__name__} {shape}") for layer, shapes in LAYERS for shape in shapes
]


def inputs(shape: tuple[int, ...]) -> torch.Tensor:
    """Samples of other sizes, so that a scale of all of them would be seen."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(4))
    return x * torch.logspace(-3, 4, shape[0]).reshape(-1, *[1] * (len(shape) - 1))


@pytest.mark.parametrize(("layer", "shape"), CASES)
def test_the_channels_are_where_the_layer_sums(layer, shape):
    inputs = layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels
    assert shape[models.channel_axis(layer)] == inputs


def test_other_layers_read_channels_last():
    assert models.channel_axis(nn.Embedding(4, 4)) == models.channel_axis(nn.LayerNorm(4)) == -1


@pytest.mark.parametrize(("name", "operand"), [
    ("nvfp4", Operand("nvfp4")), ("nvfp4-four-over-six", Operand("nvfp4", rule="four-over-six")), ("mxfp4", Operand("mxfp4")),
])  # fmt: skip
@pytest.mark.parametrize(("layer", "shape"), CASES)
@torch.no_grad()
def test_it_is_the_forward_product_of_a_trained_layer_to_the_bit(layer, shape, name, operand):
    trained, rounded, x = copy.deepcopy(layer), copy.deepcopy(layer), inputs(shape)
    quantize(trained, Qat("inputs alone", forward_x=operand))
    models.round_inputs(rounded, name)
    want = trained.eval()(x)
    assert torch.equal(rounded(x), want)
    assert not torch.equal(layer(x), want)


@torch.no_grad()
def test_a_sample_s_output_does_not_depend_on_its_batch():
    layer = copy.deepcopy(LAYERS[2][0])
    models.round_inputs(layer, "nvfp4")
    x = inputs((4, 48, 5, 6))
    for together, one in zip(layer(x), x, strict=True):  # sums may be taken in another order for another batch
        for alone in (layer(one[None])[0], layer(one)):
            torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6 * float(alone.abs().max()))


@torch.no_grad()
def test_rounding_is_named_replaced_copied_and_ended():
    layer, x = nn.Linear(48, 16), inputs((4, 48))
    plain = layer(x)
    models.round_inputs(layer, "mxfp4")
    models.round_inputs(layer, "nvfp4")
    want = nn.functional.linear(formats.activations("nvfp4").round(x), layer.weight, layer.bias)
    twin = copy.deepcopy(layer)
    for one in (layer, twin):
        assert models.rounded_inputs(one) == "nvfp4" and torch.equal(one(x), want)
    models.round_inputs(layer, "")
    assert models.rounded_inputs(layer) == "" and torch.equal(layer(x), plain)
    assert models.rounded_inputs(twin) == "nvfp4"


def test_an_input_that_is_not_the_first_argument_is_refused():
    layer = nn.Linear(48, 16)
    models.round_inputs(layer, "nvfp4")
    with pytest.raises(ModelError, match="Linear: its input must be its first argument to be rounded to nvfp4"):
        layer(input=torch.zeros(2, 48))

"""Quantizing a module in place: what is touched, what is left alone, and what stays as it was."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from torch import nn

from netweight import formats
from netweight.errors import ModelError, SettingsError
from netweight.models import nets
from netweight.train import Operand, Qat, Reset, diagnose, handle, quantize
from netweight.train._layers import forward_weight
from netweight.train._oscillation import OscillationReset, oscillating


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, padding=1)
        self.spread = nn.Conv2d(32, 32, 3, padding=1, groups=32)
        self.body = nn.Sequential(nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU())
        self.attention = nn.MultiheadAttention(32, 2, batch_first=True)
        self.up = nn.ConvTranspose2d(32, 16, 2, stride=2)
        self.head = nn.Conv2d(16, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.body(self.spread(self.stem(x)))
        tokens = x.flatten(2).transpose(1, 2)
        x = x + self.attention(tokens, tokens, tokens)[0].transpose(1, 2).reshape(x.shape)
        return self.head(self.up(x))


@pytest.fixture
def module() -> Net:
    torch.manual_seed(0)
    return Net()


def batch(n: int = 4) -> torch.Tensor:
    return torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(3))


def test_every_layer_is_listed_with_the_reason_when_it_is_left_alone(module):
    rows = {row.name: row for row in quantize(module, "nvfp4", skip=["up"]).rows}
    assert {name for name, row in rows.items() if row.quantized} == {"body.0"}
    assert "reads 3 channels" in rows["stem"].reason
    assert "depthwise" in rows["spread"].reason
    assert "NonDynamicallyQuantizableLinear" in rows["attention.out_proj"].reason
    assert "gives 1 channels" in rows["head"].reason
    assert (
        rows["up"].reason == "skipped by 'up'"
        and rows["body.0"].reason == ""
        and rows["body.0"].shape == (32, 32, 3, 3)
    )


def vit() -> nn.Module:
    return nets.build("vit", "500k", image=32, patch=8, seed=0).eval()


def test_products_of_attention_round_only_when_asked_and_are_listed_either_way():
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    left, asked = quantize(vit(), "nvfp4"), quantize(vit(), "nvfp4", attention=True)
    of = [{row.name: row for row in one.rows if row.kind == "MatMul"} for one in (left, asked)]
    assert of[0].keys() == of[1].keys() and len(of[0]) == 2 * 10
    assert all(not row.quantized and "attention = true" in row.reason for row in of[0].values())
    assert all(row.quantized and row.shape == () for row in of[1].values())
    assert asked.weights() == {name: layer for name, layer in asked.layers().items() if name not in of[1]}
    assert not torch.equal(left.module(images), asked.module(images))
    state = asked.module.state_dict()
    assert state.keys() == vit().state_dict().keys()
    assert (
        torch.equal(asked.undo()(images), vit()(images))
        and handle(quantize(vit(), "nvfp4").module).recipe.name == "nvfp4"
    )


def test_products_of_attention_are_diagnosed_by_factor():
    quantized = quantize(vit().train(), "nvfp4", skip=["*.qkv", "*.proj"], attention=True)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    found = {
        (row.layer, row.role): row for row in diagnose(quantized, lambda: quantized.module(images).sum().backward())
    }
    name = next(row.name for row in quantized.rows if row.kind == "MatMul")
    assert {role for layer, role in found if layer == name} == {
        "forward_x",
        "forward_w",
        "dgrad_g",
        "dgrad_w",
        "wgrad_g",
        "wgrad_x",
    }
    # of a value from 1 to 6 E2M1 errs by 20 % at most
    assert all(0 < found[name, role].error < 0.2 for role in ("forward_x", "forward_w"))


@pytest.mark.parametrize("name", ["w4a16", "lsq-int4"])
def test_recipes_that_round_no_inputs_say_so_of_products(name):
    rows = quantize(vit(), name, attention=True).rows
    assert all("a product of two inputs has neither" in row.reason for row in rows if row.kind == "MatMul")


def test_asking_for_products_of_a_module_without_any_is_an_error(module):
    with pytest.raises(ModelError, match="no products of models.nets.MatMul"):
        quantize(module, "nvfp4", attention=True)
    assert quantize(module, "nvfp4").layers()  # nothing had been touched


def test_the_baseline_leaves_all_as_it_is(module):
    quantized = quantize(module, "baseline")
    assert all(type(layer).__module__.startswith("torch.") for layer in module.modules() if layer is not module)
    assert {row.reason for row in quantized.rows if row.name == "up"} == {"the recipe baseline rounds nothing"}


@pytest.mark.parametrize("name", ["nvfp4-2d-rht-sr", "lsq-int4"])
def test_the_state_keeps_its_names_and_goes_through_a_file(module, name):
    before = set(module.state_dict())
    twin = copy.deepcopy(module)
    quantize(module, name)
    added = set(module.state_dict()) - before
    assert before <= set(module.state_dict())
    assert added == (
        {f"{n}.{s}" for n in ("body.0", "up") for s in ("weight_scale", "input_scale", "input_least")}
        if "lsq" in name
        else set()
    )
    module(batch()).sum().backward()
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    quantize(twin, name)
    twin.load_state_dict(torch.load(file))
    assert torch.equal(twin.eval()(batch()), module.eval()(batch()))


@pytest.mark.parametrize("name", ["nvfp4-2d-rht-sr", "int8", "lsq-int8"])
def test_undoing_gives_back_the_module_with_its_present_weights(module, name):
    plain = copy.deepcopy(module)
    quantized = quantize(module, name)
    with torch.no_grad():
        module.up.weight.mul_(2)
        plain.up.weight.mul_(2)
    assert quantized.undo() is module
    assert [type(m) for m in module.modules()] == [type(m) for m in plain.modules()]
    assert set(module.state_dict()) == set(plain.state_dict())
    assert torch.equal(module.eval()(batch()), plain.eval()(batch()))


def test_a_copy_rounds_as_its_original_and_has_a_step_of_its_own(module):
    quantized = quantize(module, "nvfp4-sr", seed=7)
    quantized.step = 3
    twin = copy.deepcopy(module)
    other = handle(twin)
    assert (other.step, other.seed, other.recipe.name, set(other.layers())) == (3, 7, "nvfp4-sr", {"body.0", "up"})
    other.step = 4
    assert quantized.step == 3
    whole = io.BytesIO()
    torch.save(module, whole)
    whole.seek(0)
    loaded = torch.load(whole, weights_only=False)
    assert torch.equal(loaded.eval()(batch()), module.eval()(batch()))
    assert isinstance(module.up, nn.ConvTranspose2d)


@pytest.mark.parametrize("name", ["nvfp4", "nvfp4-2d-rht-sr", "mxfp4", "int8", "fp8", "w4a16", "nvfp4-46"])
@pytest.mark.parametrize(
    "layer",
    [nn.Linear(32, 16), nn.Conv2d(32, 16, 3), nn.Conv2d(32, 32, 3, groups=2), nn.ConvTranspose1d(32, 16, 2)],
    ids=str,
)
def test_in_evaluation_an_output_does_not_depend_on_the_rest_of_the_batch(layer, name):
    layer = copy.deepcopy(layer)
    quantize(layer, name)
    layer.eval()
    shape = {nn.Linear: (4, 7, 32), nn.Conv2d: (4, 32, 6, 5), nn.ConvTranspose1d: (4, 32, 9)}
    x = torch.randn(next(s for kind, s in shape.items() if isinstance(layer, kind)))
    x = x * torch.tensor([1.0, 10.0, 0.1, 1e4]).reshape(-1, *[1] * (x.dim() - 1))
    with torch.no_grad():
        together, alone = layer(x), torch.cat([layer(one[None]) for one in x])
    for a, b in zip(together, alone, strict=True):  # sums may be taken in another order for another batch
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5 * float(b.abs().max()))


def test_in_training_a_batch_shares_its_second_level_scale():
    torch.manual_seed(0)
    layer = nn.Linear(32, 32)
    quantize(layer, "nvfp4")
    x = torch.randn(2, 5, 32) * torch.tensor([1.0, 1e5]).reshape(2, 1, 1)

    def off() -> float:
        alone = layer(x[:1])[0]
        return float((layer(x)[0] - alone).abs().max() / alone.abs().max())

    assert off() > 0.05  # E4M3 cannot reach from 1e5 down to 1 under one scale
    layer.eval()
    assert off() < 1e-6  # the same operands; products of 10 rows and of 5 may sum in another order


def test_a_restart_repeats_every_bit(module):
    def train(module, quantized, optimizer, steps):
        for step in steps:
            quantized.step = step
            optimizer.zero_grad()
            module(batch()).square().mean().backward()
            optimizer.step()

    quantized = quantize(module, "nvfp4-2d-rht-sr", seed=5)
    optimizer = torch.optim.Adam(module.parameters(), 1e-3)
    train(module, quantized, optimizer, range(3))
    saved = copy.deepcopy((module.state_dict(), optimizer.state_dict(), quantized.state_dict()))
    train(module, quantized, optimizer, range(3, 6))
    again = Net()
    restarted = quantize(again, "nvfp4-2d-rht-sr", seed=5)
    second = torch.optim.Adam(again.parameters(), 1e-3)
    again.load_state_dict(saved[0])
    second.load_state_dict(saved[1])
    restarted.load_state_dict(saved[2])
    assert restarted.step == 2
    train(again, restarted, second, range(3, 6))
    assert all(
        torch.equal(a, b) for a, b in zip(again.state_dict().values(), module.state_dict().values(), strict=True)
    )


def test_what_cannot_be_done_is_said(module):
    with pytest.raises(SettingsError, match="fits no layer; did you mean 'head'"):
        quantize(module, "nvfp4", skip=["heda"])
    with pytest.raises(ModelError, match="no layer of this module can be quantized: : it reads 3 channels"):
        quantize(nn.Conv2d(3, 16, 3), "nvfp4")
    with pytest.raises(ModelError, match="not quantized"):
        handle(module)
    quantized = quantize(module, "nvfp4")
    with pytest.raises(ModelError, match=r"undo\(\)"):
        quantize(module, "nvfp4")
    with pytest.raises(SettingsError, match="seed 1"):
        quantized.load_state_dict({"seed": 1, "step": 0})


def test_learned_scales_get_the_papers_gradients():
    """Against sums written out; the weight's scale starts at 2 E|w| / sqrt(Q_p), the input's when the first batch is seen."""
    torch.manual_seed(0)
    layer, x = nn.Linear(32, 16, bias=False), torch.randn(64, 32)
    x[0, 0], x[1, 1] = 50.0, -50.0
    x.requires_grad_()
    w = layer.weight.detach().clone()
    quantize(layer, "lsq-int4")
    assert layer.weight_scale.item() == pytest.approx(2 * w.abs().mean().item() / 7**0.5)
    y = layer(x)
    assert layer.input_scale.item() == pytest.approx(2 * x.abs().mean().item() / 7**0.5)
    y.square().sum().backward()
    s, t = layer.weight_scale.item(), layer.input_scale.item()
    there = [[min(max(round(float(v) / s), -8), 7) for v in row] for row in w]
    w_there = torch.tensor(there) * s
    x_there = torch.round(x.detach() / t).clamp(-8, 7) * t
    torch.testing.assert_close(y, x_there @ w_there.T)
    g = 2 * y.detach()
    to_w, total = g.T @ x_there, 0.0
    for i in range(16):
        for j in range(32):
            v = float(w[i, j]) / s
            total += float(to_w[i, j]) * (-8 if v <= -8 else 7 if v >= 7 else round(v) - v)
    assert layer.weight_scale.grad.item() == pytest.approx(total / (16 * 32 * 7) ** 0.5, rel=1e-3)
    outside = (x.detach() / t <= -8) | (x.detach() / t >= 7)
    assert outside.any() and (x.grad[outside] == 0).all() and (x.grad[~outside] != 0).all()


def test_a_weight_that_jumps_without_moving_is_put_into_its_bin():
    torch.manual_seed(0)
    layer = nn.Linear(32, 32, bias=False)
    quantized = quantize(layer, "nvfp4")
    reset = OscillationReset(quantized, Reset(start=2, every=20, window=6, threshold=8))
    with torch.no_grad():
        layer.weight.uniform_(-0.4, 0.4)
        layer.weight[:, ::16] = 1.0  # pins scales: a block's step is about 1 / 6 of 0.5
    base, counts = layer.weight.detach().clone(), []
    step = forward_weight(layer)[0, 0].item() / 12  # half of 1 / 6 of the maximum: the first step of E2M1
    for i in range(12):
        with torch.no_grad():
            layer.weight[0, 1] = step * (
                2.5 + (0.01 if i % 2 else -0.01)
            )  # to and fro over the middle between two codes
            layer.weight[0, 2] = base[0, 2] + 0.01 * i  # moves on
        counts.append(reset.after_step())
        saved = reset.state_dict()
        reset = OscillationReset(quantized, reset.reset)
        reset.load_state_dict(saved)  # an interruption at any step changes nothing
    assert sum(counts) == 1 and counts[7] == 1
    assert reset.shares == {"": 1 / 1024}


def test_watching_leaves_weights_where_they_are():
    layer = nn.Linear(16, 16, bias=False)
    quantized = quantize(layer, "nvfp4")
    watch = OscillationReset(quantized, Reset(start=1, every=8, window=4, threshold=1e-6), watch_only=True)
    for _ in range(5):
        with torch.no_grad():
            layer.weight.mul_(-1)
        before = layer.weight.clone()
        assert watch.after_step() == 0 and torch.equal(layer.weight, before)
    # all that does not round to 0 jumps as far as it moves, or nearly
    assert watch.shares[""] == pytest.approx(float((forward_weight(layer) != 0).float().mean()))


def test_the_rule_of_oscillation():
    jumped, moved = torch.tensor([0.0, 1.0, 8.0, 7.9, 1.0]), torch.tensor([0.0, 1.0, 1.0, 1.0, 0.0])
    assert oscillating(jumped, moved, 8.0).tolist() == [False, False, True, False, True]
    with pytest.raises(SettingsError, match="no reset"):
        OscillationReset(quantize(nn.Linear(16, 16), "nvfp4"))


def test_a_diagnosis_counts_what_is_lost_and_changes_nothing():
    layer = nn.Linear(32, 16, bias=False)
    row = Qat("forward and one gradient", Operand("nvfp4"), wgrad_g=Operand("nvfp4", "stochastic", hadamard=True))
    quantized = quantize(layer, row)
    x = torch.zeros(2, 32)
    x[0, 0], x[0, 1:5] = 6.0, torch.tensor([0.1, 0.2, 1.0, -0.24])  # scale 448 / 448 of 1: below a quarter of it is 0
    x[1, :16] = 1.15  # its scale, 1.15 / 6 * 448 = 85.9, rounds up to 88: nothing is cut
    found = {d.role: d for d in diagnose(quantized, lambda: layer(x).sum().backward())}
    assert set(found) == {"forward_x", "wgrad_g"}
    assert (found["forward_x"].count, found["forward_x"].flushed) == (21, 3 / 21)
    assert found["forward_x"].saturated == 0 and 0 < found["forward_x"].error < 0.1
    cut = torch.zeros(1, 32)
    cut[0, 0], cut[0, 16:] = 6.0, 1.1  # 1.1 / 6 * 448 = 82.1 rounds down to 80, so 1.1 lies beyond the end of its block
    assert diagnose(quantized, lambda: layer(cut))[0].saturated == 16 / 17
    layer.weight.grad = None
    quantized.step = 1
    layer(x).sum().backward()
    first, layer.weight.grad = layer.weight.grad, None
    quantized.step = 1
    diagnose(quantized, lambda: layer(x))
    layer(x).sum().backward()
    assert torch.equal(first, layer.weight.grad)


def test_what_is_diagnosed_are_the_draws_of_that_very_run(monkeypatch):
    """The error of a gradient that is rounded stochastically between transforms, against what round_blocks gave for it."""
    layer = nn.Linear(32, 16, bias=False)
    quantized = quantize(layer, Qat("one gradient", wgrad_g=Operand("nvfp4", "stochastic", hadamard=True)))
    x, g = (torch.randn(48, n, generator=torch.Generator().manual_seed(n)) for n in (32, 16))
    whole, made = formats.round_blocks, []

    def keeping(x, *args, **how):
        made.append((x.clone(), whole(x, *args, **how)))
        return made[-1][1]

    monkeypatch.setattr(formats, "round_blocks", keeping)
    (found,) = diagnose(quantized, lambda: layer(x).backward(g))
    ((before, after),) = made
    assert found.error == pytest.approx(((after - before).norm() / before.norm()).item(), rel=1e-5)
    signs = formats.TRANSFORMER_ENGINE_SIGNS
    nearest = whole(before, "nvfp4", axis=0, signs=signs)
    assert found.error > 1.2 * ((nearest - before).norm() / before.norm()).item()


def test_torchs_own_encoder_runs_its_rounded_layers_in_evaluation_as_well():
    """In evaluation without gradients it does the work of all its layers at once, from their weights, where nobody stops it."""
    torch.manual_seed(0)
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(64, 4, 128, batch_first=True), 2).eval()
    x, padding = torch.randn(3, 5, 64), torch.arange(5) >= torch.tensor([[3], [5], [5]])

    def outputs() -> tuple[torch.Tensor, torch.Tensor]:
        with torch.no_grad():
            return encoder(x), encoder(x, src_key_padding_mask=padding)

    plain = outputs()
    quantized = quantize(encoder, "nvfp4")
    rounded = outputs()
    torch.testing.assert_close(rounded[0], encoder(x).detach())  # with gradients torch runs layer by layer anyway
    torch.testing.assert_close(rounded[1], encoder(x, src_key_padding_mask=padding).detach())
    assert all((a - b)[1:].abs().max() > 0.05 for a, b in zip(rounded, plain, strict=True))
    assert torch.equal(copy.deepcopy(encoder)(x), encoder(x))
    quantized.undo()
    assert all(torch.equal(a, b) for a, b in zip(outputs(), plain, strict=True))


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_a_vector_is_one_sample_of_learned_scales(bits):
    layer = nn.Linear(64, 16)
    quantize(layer, Qat("learned", learned=bits))
    x = torch.randn(64, generator=torch.Generator().manual_seed(1))
    found = []
    for given in (x[None], x):
        layer.zero_grad()
        layer(given).sum().backward()
        found.append(float(layer.input_scale.grad))
    assert found[0] == pytest.approx(found[1], rel=1e-6) and found[0] != 0


def test_layers_with_gradients_draw_anew_in_evaluation_as_well():
    layer = nn.Linear(32, 32).eval()  # as where batch normalization is frozen
    quantize(layer, Qat("drawn", dgrad_g=Operand("nvfp4", rounding="stochastic")))
    x = torch.randn(64, 32, generator=torch.Generator().manual_seed(1), requires_grad=True)
    g = torch.randn(64, 32, generator=torch.Generator().manual_seed(2))
    found = []
    for _ in range(2):
        x.grad = None
        layer(x).backward(g)
        found.append(x.grad)
    assert not torch.equal(*found)


@pytest.mark.parametrize("bits", [2, 4])
def test_inputs_without_a_sign_take_all_codes_above_0(bits):
    """As after a ReLU: 0 to 2^b - 1 steps, where half the codes of a signed grid would serve nothing. What comes later is cut off at 0."""
    layer = nn.Linear(32, 16, bias=False)
    quantize(layer, Qat("learned", learned=bits))
    x = torch.rand(64, 32, generator=torch.Generator().manual_seed(0)).requires_grad_()
    most = 2**bits - 1
    y = layer(x)
    scale = float(layer.input_scale.detach())
    assert scale == pytest.approx(2 * float(x.detach().mean()) / most**0.5)
    there = (x.detach() / scale).round().clamp(0, most) * scale
    torch.testing.assert_close(y, nn.functional.linear(there, forward_weight(layer)))
    y.sum().backward()
    units = x.detach() / scale
    by_scale = torch.where((units > 0) & (units < most), units.round() - units, units.clamp(0, most))
    want = (forward_weight(layer).sum(0) * by_scale).sum() / (32 * most) ** 0.5
    assert float(layer.input_scale.grad) == pytest.approx(float(want), rel=1e-4)
    assert torch.equal(layer(-x.detach()), torch.zeros(64, 16))


def test_a_handle_says_what_it_is_and_recurrent_layers_are_listed():
    net = nn.Sequential(nn.Linear(32, 32), nn.LSTM(32, 32))
    quantized = quantize(net, "nvfp4", skip="1")
    assert repr(quantized) == "<nvfp4: 1 layer of Sequential rounded, 1 left alone, step 0>"
    assert [(row.kind, row.quantized) for row in quantized.rows] == [("Linear", True), ("LSTM", False)]
    with pytest.raises(ModelError, match="quantize takes a module, not <class"):
        quantize(nn.Linear, "nvfp4")

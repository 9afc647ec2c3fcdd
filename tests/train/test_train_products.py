"""Each of the three products of every kind of layer, against explicit loops over operands rounded line by line."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from netweight.errors import ModelError
from netweight.models import nets
from netweight.train import Operand, Qat, catalogue, quantize
from oracles import low_bit_products as oracle

Q = Operand("nvfp4")
# All three products, some of them, and different formats for each operand: what is rounded is known by role.
RECIPES = {
    "all": Qat("all", Q, Q, Q, Q, Q, Q),
    "forward": Qat("forward", Q, Q),
    "chain": Qat("chain", Q, Q, dgrad_w="forward", wgrad_x="forward"),
    "input gradient": Qat("input gradient", dgrad_g=Q, dgrad_w=Operand("mxfp4")),
    "weight gradient": Qat("weight gradient", wgrad_g=Operand("mxfp4"), wgrad_x=Q),
}


def operands(recipe: Qat) -> dict[str, str | None]:
    """Format names by role; what reuses the forward product's operand has "forward"."""
    return {role: o if isinstance(o, str) else o.format for role, o in recipe.operands().items()}


def values(*tensors: torch.Tensor | None) -> list[np.ndarray]:
    return [tensor.detach().numpy() for tensor in tensors if tensor is not None]


def backward(layer: nn.Module, x: torch.Tensor, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    y = layer(x)
    g = torch.randn(y.shape, generator=torch.Generator().manual_seed(seed)) * 0.1
    y.backward(g)
    return y, g


def close(got: np.ndarray, want: np.ndarray) -> None:
    """Products of equal operands, summed in float32 here and in float64 there."""
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=2e-5 * np.abs(want).max())


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("shape", [(40, 32), (3, 7, 32)])
def test_a_linear_layer(name, shape):
    torch.manual_seed(0)
    layer, x = nn.Linear(32, 24), torch.randn(shape, requires_grad=True)
    quantize(layer, RECIPES[name])
    y, g = backward(layer, x, 1)
    f = operands(RECIPES[name])
    xs, w, gs, bias = values(x, layer.weight, g, layer.bias)
    tokens, grads = xs.reshape(-1, 32), gs.reshape(-1, 24)
    x_there, w_there = oracle.along(tokens, 1, f["forward_x"]), oracle.along(w, 1, f["forward_w"])
    close(y.detach().numpy().reshape(-1, 24), x_there @ w_there.T + bias)
    w_back = w_there if f["dgrad_w"] == "forward" else oracle.along(w, 0, f["dgrad_w"])
    x_back = x_there if f["wgrad_x"] == "forward" else oracle.along(tokens, 0, f["wgrad_x"])
    close(x.grad.numpy().reshape(-1, 32), oracle.along(grads, 1, f["dgrad_g"]) @ w_back)
    close(layer.weight.grad.numpy(), oracle.along(grads, 0, f["wgrad_g"]).T @ x_back)
    close(layer.bias.grad.numpy(), grads.sum(0))


# A product of two inputs takes what the recipe says of inputs for both factors: what it says of weights must not be seen.
OF_INPUTS = {
    "all": Qat("all", Q, Operand("e4m3-g32"), Q, Operand("mxfp4"), Q, Operand("mxfp4")),
    "chain": Qat("chain", Q, Operand("mxfp4"), dgrad_w="forward", wgrad_x="forward"),
    "gradients": Qat("gradients", dgrad_g=Operand("mxfp4"), wgrad_g=Q, wgrad_x=Operand("mxfp4")),
}


@pytest.mark.parametrize("name", OF_INPUTS)
@pytest.mark.parametrize("leading", [(), (3,), (2, 3)])
def test_a_product_of_two_inputs(name, leading):
    module = nn.Sequential(nets.MatMul())
    quantize(module, OF_INPUTS[name], attention=True)
    torch.manual_seed(2)
    left = torch.randn(
        *leading, 20, 40, requires_grad=True
    )  # neither 20 nor 40 is a multiple of 16: last blocks are shorter
    right = torch.randn(*leading, 24, 40, requires_grad=True)
    y = module[0](left, right.mT)
    g = torch.randn(y.shape) * 0.1
    y.backward(g)
    f = operands(OF_INPUTS[name])
    a, b, gs = values(left, right.mT, g)
    rows, columns = a.ndim - 1, a.ndim - 2
    a_there, b_there = oracle.along(a, rows, f["forward_x"]), oracle.along(b, columns, f["forward_x"])
    close(y.detach().numpy(), a_there @ b_there)
    again = f["wgrad_x"]
    b_back = b_there if again == "forward" else oracle.along(b, rows, again)
    a_back = a_there if again == "forward" else oracle.along(a, columns, again)
    close(left.grad.numpy(), oracle.along(gs, rows, f["dgrad_g"]) @ b_back.swapaxes(-1, -2))
    close(right.grad.mT.numpy(), a_back.swapaxes(-1, -2) @ oracle.along(gs, columns, f["wgrad_g"]))


@pytest.mark.parametrize("recipe", catalogue(), ids=lambda recipe: recipe.name)
def test_a_transform_surrounds_both_operands_of_a_product_or_neither(recipe):
    for row in (recipe, recipe.between_inputs()):
        for pair in (("forward_x", "forward_w"), ("dgrad_g", "dgrad_w"), ("wgrad_g", "wgrad_x")):
            turned = {o.hadamard for o in (getattr(row, role) for role in pair) if isinstance(o, Operand)}
            assert len(turned) == 1, (row.name, pair)


def test_in_evaluation_a_product_of_two_inputs_does_not_depend_on_what_else_is_in_the_batch():
    module = nn.Sequential(nets.MatMul())
    quantize(module, "nvfp4", attention=True)
    module.eval()
    left, right = torch.randn(4, 2, 9, 32), torch.randn(4, 2, 32, 9)
    left[3] *= 1000
    together = module[0](left, right)
    for k in range(4):
        alone = module[0](left[k : k + 1], right[k : k + 1])[0]
        torch.testing.assert_close(
            together[k], alone, rtol=1e-5, atol=1e-6 * float(alone.abs().max())
        )  # sums of another order
    with pytest.raises(AssertionError, match="not close"):  # as it would be with one scale for all
        torch.testing.assert_close(module.train()[0](left, right)[0], together[0], rtol=1e-2, atol=1e-2)


def test_factors_that_torch_would_broadcast_are_refused():
    module = nn.Sequential(nets.MatMul())
    quantize(module, "nvfp4", attention=True)
    with pytest.raises(ModelError, match="equal leading sizes"):
        module[0](torch.randn(4, 9, 32), torch.randn(32, 9))


CONVS = [
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 4, "stride": 2, "padding": 1},
    {"kernel_size": 3, "dilation": 2, "padding": 2},
    {"kernel_size": 3, "groups": 2, "stride": 2, "padding": 1},
    {"kernel_size": 1, "bias": False},
]


def grouped(x: np.ndarray, axis: int, groups: int, name: str | None) -> np.ndarray:
    """Rounded in blocks that do not reach from one group of channels into the next; the tensor's own scale is one."""
    apart = x.reshape(*x.shape[:axis], groups, -1, *x.shape[axis + 1 :])
    return oracle.along(apart, axis + 1, name).reshape(x.shape)


def positions(x: np.ndarray, name: str | None) -> np.ndarray:
    return oracle.along(x.reshape(*x.shape[:2], -1), 2, name).reshape(x.shape)


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("options", CONVS, ids=str)
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_a_convolution(name, options, memory):
    torch.manual_seed(0)
    layer = nn.Conv2d(40, 32, **options)
    x = torch.randn(2, 40, 7, 9).to(memory_format=memory).requires_grad_()
    quantize(layer, RECIPES[name])
    y, g = backward(layer, x, 2)
    f, groups = operands(RECIPES[name]), layer.groups
    xs, w, gs = values(x, layer.weight, g)
    bias = 0 if layer.bias is None else layer.bias.detach().numpy()[:, None, None]
    where = (layer.stride[0], layer.padding[0], layer.dilation[0], groups)
    x_there, w_there = grouped(xs, 1, groups, f["forward_x"]), oracle.along(w, 1, f["forward_w"])
    close(y.detach().numpy(), oracle.conv(x_there, w_there, *where) + bias)
    w_back = w_there if f["dgrad_w"] == "forward" else grouped(w, 0, groups, f["dgrad_w"])
    x_back = x_there if f["wgrad_x"] == "forward" else positions(xs, f["wgrad_x"])
    close(x.grad.numpy(), oracle.conv_gradients(xs, w_back, grouped(gs, 1, groups, f["dgrad_g"]), *where)[0])
    close(layer.weight.grad.numpy(), oracle.conv_gradients(x_back, w, positions(gs, f["wgrad_g"]), *where)[1])
    if layer.bias is not None:
        close(layer.bias.grad.numpy(), gs.sum((0, 2, 3)))


TRANSPOSED = [
    {"kernel_size": 2, "stride": 2},
    {"kernel_size": 4, "stride": 2, "padding": 1},
    {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1, "groups": 2},
]


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("options", TRANSPOSED, ids=str)
def test_a_transposed_convolution(name, options):
    torch.manual_seed(0)
    layer, x = nn.ConvTranspose2d(40, 32, **options), torch.randn(2, 40, 5, 4, requires_grad=True)
    quantize(layer, RECIPES[name])
    y, g = backward(layer, x, 3)
    f, groups = operands(RECIPES[name]), layer.groups
    xs, w, gs = values(x, layer.weight, g)
    where, extra = (layer.stride[0], layer.padding[0], groups), layer.output_padding[0]
    x_there, w_there = grouped(xs, 1, groups, f["forward_x"]), grouped(w, 0, groups, f["forward_w"])
    close(
        y.detach().numpy(),
        oracle.conv_transpose(x_there, w_there, *where, extra) + layer.bias.detach().numpy()[:, None, None],
    )
    w_back = w_there if f["dgrad_w"] == "forward" else oracle.along(w, 1, f["dgrad_w"])
    x_back = x_there if f["wgrad_x"] == "forward" else positions(xs, f["wgrad_x"])
    close(x.grad.numpy(), oracle.conv_transpose_gradients(xs, w_back, grouped(gs, 1, groups, f["dgrad_g"]), *where)[0])
    close(layer.weight.grad.numpy(), oracle.conv_transpose_gradients(x_back, w, positions(gs, f["wgrad_g"]), *where)[1])


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv1d(16, 16, 3, padding=1), (2, 16, 20)),
        (nn.Conv3d(16, 16, 3, padding=1), (2, 16, 4, 5, 6)),
        (nn.ConvTranspose1d(16, 16, 2, stride=2), (2, 16, 20)),
        (nn.ConvTranspose3d(16, 16, 2, stride=2), (2, 16, 4, 5, 6)),
        (nn.Conv2d(16, 16, 3, padding="same", padding_mode="reflect"), (2, 16, 6, 7)),
        (nn.Conv2d(16, 16, 4, padding="same"), (2, 16, 6, 7)),
        (nn.Conv2d(16, 16, 3, padding=1), (16, 6, 7)),
        (nn.ConvTranspose2d(16, 16, 2, stride=2), (16, 6, 7)),
    ],
    ids=str,
)
def test_every_kind_of_layer_is_torchs_own_where_operands_lie_on_the_grid(layer, shape):
    """Zeros and single ones per block are exact in NVFP4, so that geometry alone is compared."""
    quantized, x = copy.deepcopy(layer), torch.zeros(shape)
    flat = x.movedim(0 if len(shape) == 3 and layer.weight.dim() == 4 else 1, -1)
    flat[..., 0] = torch.randint(0, 2, flat.shape[:-1]).float() * 6
    with torch.no_grad():
        for module in (layer, quantized):
            module.weight.zero_()
            module.weight[0, 0] = 3.0
    quantize(quantized, Qat("forward", Q, Q, dgrad_w="forward", wgrad_x="forward"))
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    want, got = layer(a), quantized(b)
    torch.testing.assert_close(got, want)
    g = torch.randn(want.shape)
    want.backward(g)
    got.backward(g)
    torch.testing.assert_close(b.grad, a.grad)
    torch.testing.assert_close(quantized.weight.grad, layer.weight.grad, rtol=1e-4, atol=1e-4)


def test_what_nobody_needs_is_not_rounded(monkeypatch):
    from netweight import formats

    asked, plain = [], formats.round_blocks
    monkeypatch.setattr(formats, "round_blocks", lambda x, *a, **k: asked.append(tuple(x.shape)) or plain(x, *a, **k))
    layer = nn.Linear(32, 32)
    quantize(layer, "nvfp4-2d-rht-sr")
    layer(torch.randn(8, 32)).sum().backward()
    assert len(asked) == 4  # x and W forward, G and X for the weight; squares serve both products
    asked.clear()
    layer.weight.requires_grad_(False)
    layer(torch.randn(8, 32, requires_grad=True)).sum().backward()
    assert len(asked) == 3  # x and W forward, G for the input; the squares of W are at hand
    asked.clear()
    with torch.no_grad():
        layer(torch.randn(8, 32))
    assert len(asked) == 2


@pytest.mark.parametrize("row", [row for row in catalogue() if row.rounds], ids=lambda row: row.name)
@pytest.mark.parametrize(
    ("layer", "shape"),
    [(nn.Linear(32, 24), (0, 32)), (nn.Linear(32, 24), (2, 0, 32)), (nn.Conv2d(32, 24, 3, padding=1), (0, 32, 5, 5))],
    ids=["linear", "tokens", "conv"],
)
@pytest.mark.parametrize("training", [True, False])
def test_nothing_goes_in_and_nothing_comes_out(row, layer, shape, training):
    layer = copy.deepcopy(layer).train(training)
    want = layer(torch.empty(shape)).shape
    quantize(layer, row)
    x = torch.empty(shape, requires_grad=True)
    y = layer(x)
    assert y.shape == want
    y.sum().backward()
    assert all(p.grad is None or not p.grad.any() for p in layer.parameters())
    later = layer(torch.ones((2, *shape[1:]) if shape[1] else (2, 3, 32)))
    assert later.isfinite().all()


@pytest.mark.parametrize("kernel", [3, (3, 5)])
def test_same_padding_is_that_padding_in_numbers_backward_too(kernel):
    torch.manual_seed(0)
    tall, wide = (kernel, kernel) if isinstance(kernel, int) else kernel
    numbers, words = (
        nn.Conv2d(32, 32, kernel, padding=(tall // 2, wide // 2)),
        nn.Conv2d(32, 32, kernel, padding="same"),
    )
    words.load_state_dict(numbers.state_dict())
    x, y = (torch.randn(2, 32, 7, 7, generator=torch.Generator().manual_seed(1)).requires_grad_() for _ in range(2))
    for one in (numbers, words):
        quantize(one, RECIPES["all"])
    a, _ = backward(numbers, x, 3)
    b, _ = backward(words, y, 3)
    assert torch.equal(a, b) and torch.equal(x.grad, y.grad)
    assert torch.equal(numbers.weight.grad, words.weight.grad)


def test_integers_round_gradients_and_inputs_of_any_size():
    """Their scales are kept in no file, so that float16 has no say in them."""
    row = Qat("all", *(Operand("int8-sym-tensor"),) * 2, Operand("int8-sym-tensor"), Operand("int8-sym-tensor"))
    for size in (1e-9, 1.0, 1e9):
        torch.manual_seed(0)
        layer, x = nn.Linear(64, 32, bias=False), (torch.randn(16, 64) * size).requires_grad_()
        plain, y = copy.deepcopy(layer), x.detach().clone().requires_grad_()
        quantize(layer, row)
        g = torch.randn(16, 32) * size
        layer(x).backward(g)
        plain(y).backward(g)
        got, want = layer(x).detach(), plain(y).detach()
        # eight bits: off by half a step of 1/127 of the largest, some 4 sigma, uniformly: 1 % for each operand
        assert float((got - want).norm()) < 0.03 * float(want.norm())
        assert float((x.grad - y.grad).norm()) < 0.03 * float(y.grad.norm())


def test_a_product_of_matrices_is_one_call():
    module, calls = nn.Sequential(nets.MatMul()), []
    quantize(module, OF_INPUTS["all"], attention=True)
    module[0].register_forward_hook(lambda *_: calls.append(1))
    module[0](torch.randn(16, 32), torch.randn(32, 16))
    assert calls == [1]

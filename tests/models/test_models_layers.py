"""Layers, their matrices, and the rows those matrices multiply."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import tiny_module
from torch import nn
from transformers.pytorch_utils import Conv1D

from netweight import models
from netweight.errors import ModelError

CONVS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
CLOSE = {"rtol": 1e-10, "atol": 1e-10}  # float64 sums of at most a few hundred terms of order 1


def product_of_rows(module, x, out):
    """The output computed from ``stage_input`` and ``matrix_of``, shaped like ``out``."""
    rows, weight = models.stage_input(module, x), models.matrix_of(module)
    if rows.dim() == 3:
        weight = weight.reshape(rows.shape[0], -1, weight.shape[1])
        y = torch.cat([r @ w.T for r, w in zip(rows, weight, strict=True)], dim=1)
    else:
        y = rows @ weight.T
    y = y if module.bias is None else y + module.bias
    batched = out if out.dim() == len(module.kernel_size) + 2 else out.unsqueeze(0)
    return y.reshape(batched.shape[0], *batched.shape[2:], -1).movedim(-1, 1).reshape(out.shape)


@st.composite
def convolutions(draw):
    spatial = draw(st.integers(1, 3))
    groups = draw(st.integers(1, 3))
    transposed = draw(st.booleans())
    stride = tuple(draw(st.integers(1, 3)) for _ in range(spatial))
    dilation = tuple(draw(st.integers(1, 2)) for _ in range(spatial))
    options = {
        "in_channels": groups * draw(st.integers(1, 3)),
        "out_channels": groups * draw(st.integers(1, 3)),
        "kernel_size": tuple(draw(st.integers(1, 3)) for _ in range(spatial)),
        "stride": stride,
        "dilation": dilation,
        "groups": groups,
        "bias": draw(st.booleans()),
        "dtype": torch.float64,
    }
    if transposed:
        options["padding"] = tuple(draw(st.integers(0, 2)) for _ in range(spatial))
        options["output_padding"] = tuple(
            draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True)
        )
    else:
        mode = draw(st.sampled_from(["zeros", "same", "circular", "reflect"]))
        if mode == "same":
            options |= {"stride": 1, "padding": "same"}
        else:
            options |= {"padding": tuple(draw(st.integers(0, 2)) for _ in range(spatial)), "padding_mode": mode}
    module = (TRANSPOSED if transposed else CONVS)[spatial](**options)
    size = tuple(draw(st.integers(5, 7)) for _ in range(spatial))
    batch = draw(st.sampled_from([(), (2,)]))
    return module, (*batch, options["in_channels"], *size)


@settings(max_examples=150, deadline=None)
@given(convolutions(), st.integers(0, 2**31))
def test_rows_times_matrix_is_the_convolution(case, seed):
    module, shape = case
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
        x = torch.randn(shape, generator=generator, dtype=torch.float64)
        out = module(x)
        torch.testing.assert_close(product_of_rows(module, x, out), out, **CLOSE)


@settings(max_examples=60, deadline=None)
@given(convolutions())
def test_set_matrix_undoes_matrix_of(case):
    module, _ = case
    weight, before = models.matrix_of(module).clone(), module.weight.detach().clone()
    assert tuple(weight.shape) == models.matrix_shape(module)
    module.weight.data.zero_()
    models.set_matrix(module, weight)
    assert torch.equal(module.weight, before)


def test_a_convolutions_columns_run_over_channels_within_a_tap():
    module = nn.Conv2d(3, 4, (2, 5))
    weight = models.matrix_of(module)
    for o, kh, kw, c in itertools.product(range(4), range(2), range(5), range(3)):
        assert weight[o, (kh * 5 + kw) * 3 + c] == module.weight[o, c, kh, kw]


def test_a_transposed_linear_layer_gives_rows_of_outputs():
    module = Conv1D(5, 3)  # five outputs, three inputs
    weight = models.matrix_of(module)
    assert tuple(weight.shape) == models.matrix_shape(module) == (5, 3)
    x = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    rows = models.stage_input(module, x)
    torch.testing.assert_close(rows @ weight.T + module.bias, module(x).reshape(8, 5), rtol=1e-6, atol=1e-6)  # float32
    models.set_matrix(module, weight * 2)
    assert torch.equal(module.weight, weight.T * 2)


def test_linear_and_embedding_matrices_are_their_weights():
    linear, embedding = nn.Linear(3, 5), nn.Embedding(7, 2)
    assert torch.equal(models.matrix_of(linear), linear.weight)
    assert torch.equal(models.matrix_of(embedding), embedding.weight)
    assert models.stage_input(linear, torch.ones(2, 4, 3)).shape == (8, 3)
    with pytest.raises(ModelError, match="multiplies no input rows"):
        models.stage_input(embedding, torch.ones(2, dtype=torch.long))


def test_what_is_no_layer_or_does_not_fit_is_refused():
    with pytest.raises(ModelError, match="a LayerNorm has no weight matrix"):
        models.matrix_of(nn.LayerNorm(3))
    with pytest.raises(ModelError, match=r"needs a matrix of shape \(5, 3\), not \(3, 5\)"):
        models.set_matrix(nn.Linear(3, 5), torch.zeros(3, 5))
    with pytest.raises(ModelError, match="materialize it"):
        models.set_matrix(nn.Linear(3, 5, device="meta"), torch.zeros(5, 3))


def test_layers_of_an_empty_model_know_block_shape_and_tie(saved):
    _, folder = saved("llama", kv_heads=2)
    found = models.layers(models.load(folder))
    assert [*found][:1] + [*found][-1:] == ["model.embed_tokens", "lm_head"]
    assert len(found) == 3 * 7 + 2
    k = found["model.layers.1.self_attn.k_proj"]
    assert (k.kind, k.shape, k.block, k.tied_to) == ("linear", (16, 32), "model.layers.1", "")
    assert (found["lm_head"].tied_to, found["lm_head"].block) == ("model.embed_tokens", None)
    assert found["model.embed_tokens"].kind == "embedding" and found["model.embed_tokens"].tied_to == ""


def test_gpt2_layers_have_their_true_shape():
    found = models.layers(models.load(tiny_module("gpt2")))
    layer = found["transformer.h.0.attn.c_attn"]
    assert (layer.kind, layer.shape) == ("linear_transposed", (96, 32))


def test_every_kind_of_layer_of_a_plain_module_is_listed():
    module = nn.ModuleDict(
        {
            "a": nn.Linear(2, 3),
            "b": nn.Conv2d(4, 6, 3, groups=2),
            "c": nn.ConvTranspose3d(4, 6, 2, groups=2),
            "d": nn.Embedding(5, 2),
            "e": nn.BatchNorm2d(6),
            "f": nn.Conv1d(2, 2, 3),
        }
    )
    found = models.layers(models.load(module))
    assert {name: (layer.kind, layer.shape, layer.conv_groups, layer.block) for name, layer in found.items()} == {
        "a": ("linear", (3, 2), 1, ""),
        "b": ("conv2d", (6, 18), 2, ""),
        "c": ("conv_transpose3d", (6, 16), 2, ""),
        "d": ("embedding", (5, 2), 1, ""),
        "f": ("conv1d", (2, 6), 1, ""),
    }
    assert models.layers(models.load(nn.Linear(2, 3)))[""].shape == (3, 2)

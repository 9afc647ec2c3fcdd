"""A transformer's block against torch's own, the decoder's order of tokens, and what attention shows of itself."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from netweight.errors import ModelError
from netweight.models import nets
from netweight.models.nets._transformer import Block, Decoder


@pytest.fixture(scope="module")
def net() -> nets.Net:
    made = nets.build("vit", "500k", image=64, seed=0).eval()
    generator = torch.Generator().manual_seed(2)
    for value in made.blocks.parameters():
        value.data.normal_(0, 0.2, generator=generator)
    return made


def tokens(count: int = 17) -> torch.Tensor:
    return torch.randn(3, count, 64, generator=torch.Generator().manual_seed(1))


def torchs(block: Block) -> nn.TransformerEncoderLayer:
    """torch's layer, with its own attention, from our weights."""
    made = nn.TransformerEncoderLayer(
        64, block.attention.heads, 192, activation="gelu", batch_first=True, norm_first=True
    )
    attention = made.self_attn
    pairs = [(attention.in_proj_weight, block.attention.qkv.weight), (attention.in_proj_bias, block.attention.qkv.bias)]
    ours = (block.attention.proj, block.fc1, block.fc2, block.norm1, block.norm2)
    theirs = (attention.out_proj, made.linear1, made.linear2, made.norm1, made.norm2)
    for a, b in zip(theirs, ours, strict=True):
        pairs += [(a.weight, b.weight), (a.bias, b.bias)]
    for to, of in pairs:
        to.data.copy_(of.data)
    return made.eval()


@torch.no_grad()
def test_a_block_equals_torchs_own(net):
    for block in net.blocks[:2]:
        assert torch.allclose(block(tokens()), torchs(block)(tokens()), atol=1e-4)


@torch.no_grad()
def test_probabilities_equal_those_of_torchs_attention(net):
    block = net.blocks[0]
    x = block.norm1(tokens())
    _, want = torchs(block).self_attn(x, x, x, average_attn_weights=False)
    assert torch.allclose(block.attention.probabilities(x), want, atol=1e-6)


def test_attention_is_shown_for_every_block_and_leaves_no_trace(net):
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    net.train()
    found = nets.attention(net, images)
    assert net.training and not any(m._forward_pre_hooks for m in net.modules())
    net.eval()
    assert list(found) == [f"blocks.{n}.attention" for n in range(10)]
    assert all(rows.shape == (2, 2, 17, 17) for rows in found.values())
    assert all(torch.allclose(rows.sum(-1), torch.ones(())) for rows in found.values())


def test_a_net_without_attention_says_so():
    with pytest.raises(ModelError, match="no attention layers"):
        nets.attention(nets.build("cnn", "500k", image=64, seed=0), torch.zeros(1, 3, 64, 64))


def test_distinct_counts_values_in_a_row():
    assert nets.distinct(torch.full((2, 3, 8), 1 / 8)) == 1
    rows = torch.tensor([[0.5, 0.25, 0.25, 0.0], [0.1, 0.2, 0.3, 0.4]])
    assert nets.distinct(rows) == 3.5
    near = torch.tensor([[0.25, 0.25 + 1e-5, 0.5, 0.0]])
    assert (nets.distinct(near), nets.distinct(near, dtype=torch.float32)) == (3, 4)


@torch.no_grad()
@pytest.mark.parametrize("patch", [4, 8, 16])
def test_a_patchs_token_is_decoded_where_the_patch_was(patch):
    decoder = Decoder(64, 4, patch)
    x = torch.zeros(1, 16, 64)
    flat = [m for m in decoder.modules() if isinstance(m, nn.GroupNorm)]
    for norm in flat:  # norms look at the whole image: leave them out, to see what is local
        norm.forward = lambda y: y
    other = x.clone()
    other[0, 6] = 1  # row 1, column 2
    changed = (decoder(other) - decoder(x))[0, 0] != 0
    own = changed[patch : 2 * patch, 2 * patch : 3 * patch]
    assert changed.shape == (4 * patch, 4 * patch) and own.float().mean() > 0.9 and changed.sum() == own.sum()


def test_samples_skip_a_branch_as_often_as_they_should_and_the_mean_stays():
    block = Block(nn.Identity(), 16, 32, dropout=0.1, drop=0.3).train()
    torch.manual_seed(0)
    kept = block._kept(torch.ones(20_000, 2, 3))
    assert torch.equal(kept, kept[:, :1, :1].expand_as(kept))
    assert float((kept == 0)[:, 0, 0].float().mean()) == pytest.approx(0.3, abs=4 * (0.21 / 20_000) ** 0.5)
    assert kept.max() == pytest.approx(1 / 0.7)
    assert torch.equal(block.eval()._kept(torch.ones(3, 2, 3)), torch.ones(3, 2, 3))


def test_deeper_blocks_are_skipped_more_often(net):
    drops = [block.drop for block in net.blocks]
    assert drops[0] == 0 and drops[-1] == pytest.approx(0.1)
    assert all(b - a == pytest.approx(0.1 / 9) for a, b in pairwise(drops))


@torch.no_grad()
def test_the_class_token_is_read_but_not_decoded(net):
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    want = net(x)
    saved = net.leading.data.clone()
    net.leading.data *= -50  # small as drawn; a norm would not see a constant added
    assert not torch.allclose(net(x), want, atol=1e-4)
    net.leading.data.copy_(saved)
    handle = net.norm.register_forward_hook(lambda m, i, o: torch.cat([o[:, :1] + 100, o[:, 1:]], 1))
    assert torch.equal(net(x), want)
    handle.remove()

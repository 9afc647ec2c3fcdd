"""Attention in shifted windows against loops over windows, pairs of tokens and heads."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from netweight.models import nets
from netweight.models.nets.swin import WindowAttention

DIM, HEADS = 16, 2


def layer(grid: int, window: int, shift: int) -> WindowAttention:
    made = WindowAttention(DIM, HEADS, grid, window, shift)
    generator = torch.Generator().manual_seed(grid + shift)
    for value in made.parameters():
        value.data.normal_(0, 0.5, generator=generator)
    return made


def tokens(grid: int) -> torch.Tensor:
    return torch.randn(2, grid**2, DIM, generator=torch.Generator().manual_seed(1))


def by_loops(made: WindowAttention, x_TD: np.ndarray, grid: int, window: int, shift: int) -> np.ndarray:
    """One image: a token attends to those of its window on its side of the border, in a grid that is moved, not rolled.

    The windows' corners lie at ``shift - window``, ``shift``, ``shift + window``, ...: what lies before the first whole window
    and after the last is a smaller window of its own.
    """
    weights = {n: p.detach().double().numpy() for n, p in made.named_parameters()}
    qkv = x_TD @ weights["qkv.weight"].T + weights["qkv.bias"]
    size = DIM // HEADS
    mixed = np.zeros_like(x_TD)
    place = [(t // grid, t % grid) for t in range(grid**2)]

    def window_of(t):
        return tuple((c - shift) // window for c in place[t])  # floor: negative before the first whole window

    for t in range(grid**2):
        seen = [u for u in range(grid**2) if window_of(u) == window_of(t)]
        for head in range(HEADS):
            part = slice(head * size, (head + 1) * size)
            scores = []
            for u in seen:
                down, right = place[t][0] - place[u][0], place[t][1] - place[u][1]
                row = (down + window - 1) * (2 * window - 1) + right + window - 1
                score = qkv[t][part] @ qkv[u][DIM:][part] / np.sqrt(size)
                scores.append(score + weights["relative"][row, head])
            share = np.exp(np.array(scores) - max(scores))
            share /= share.sum()
            mixed[t][part] = sum(s * qkv[u][2 * DIM :][part] for s, u in zip(share, seen, strict=True))
    return mixed @ weights["proj.weight"].T + weights["proj.bias"]


@pytest.mark.parametrize(("grid", "window", "shift"), [(4, 2, 0), (4, 2, 1), (8, 4, 2), (6, 3, 1), (4, 4, 0)])
def test_it_equals_loops_over_the_windows(grid, window, shift):
    made, x = layer(grid, window, shift), tokens(grid)
    with torch.no_grad():
        got = made(x)
    for row, result in zip(x, got, strict=True):
        want = by_loops(made, row.double().numpy(), grid, window, shift)
        assert np.allclose(result.numpy(), want, atol=2e-5)


def test_a_seam_is_masked_with_what_no_score_outweighs():
    made = layer(4, 2, 1)
    rows = made.probabilities(tokens(4))
    assert torch.allclose(rows.sum(-1), torch.ones(()))
    last = rows[:, -1]  # its four tokens come from four corners of the grid
    assert torch.allclose(last, torch.eye(4).expand_as(last), atol=1e-6)


def test_blocks_shift_in_turn_where_there_are_several_windows():
    shifts = [block.attention.shift for block in nets.build("swin", "500k", image=128, seed=0).blocks]
    assert shifts == [0, 2] * 5
    alone = [block.attention for block in nets.build("swin", "4m", image=128, seed=0).blocks]
    assert all(a.window == 8 and a.shift == 0 and a.mask is None for a in alone)


def test_without_a_shift_nothing_leaves_its_window_and_with_one_it_does():
    x = tokens(8)
    other = x.clone()
    other[:, 0] += 1
    reached = []
    for shift in (0, 2):
        made = layer(8, 4, shift)
        with torch.no_grad():
            changed = (made(other) - made(x)).abs().sum(-1)[0].view(8, 8) > 0
        reached.append(changed)
    assert reached[0][:4, :4].all() and reached[0].sum() == 16
    assert reached[1][:2, :2].all() and reached[1].sum() == 4


def test_tables_of_masks_are_no_part_of_what_is_saved():
    assert not any(n.endswith(("index", "mask")) for n in nets.build("swin", "500k", image=128, seed=0).state_dict())

"""The optimizers of training against torch's plain forms, tensor by tensor."""

from __future__ import annotations

import pytest
import torch

from netweight.train import Training, optimizer


@pytest.mark.parametrize(("name", "plain"), [("adamax", torch.optim.Adamax), ("adamw", torch.optim.AdamW)])
def test_many_parameters_at_once_move_as_one_by_one(name: str, plain: type[torch.optim.Optimizer]):
    draw = torch.Generator().manual_seed(0)
    start = [torch.randn(shape, generator=draw) for shape in ((3, 4), (5,), (2, 3, 3, 3), (1,))]
    ours, theirs = ([t.clone().requires_grad_() for t in start] for _ in range(2))
    stepping = [optimizer(ours, Training(optimizer=name, lr=1e-2, weight_decay=0.1)),
                plain(theirs, lr=1e-2, weight_decay=0.1, foreach=False)]  # fmt: skip
    for _ in range(20):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn(a.shape, generator=draw)
            b.grad = a.grad.clone()
        for one in stepping:
            one.step()
    for a, b, first in zip(ours, theirs, start, strict=True):
        torch.testing.assert_close(
            a, b, rtol=1e-5, atol=1e-6
        )  # 20 steps, each rounded once or twice at 2^-24, in another order
        assert (a - first).abs().max() > 1e-3  # they moved: a step of Adam is about the rate, 1e-2, gradients are noise


def test_a_rate_may_be_given():
    assert optimizer([torch.zeros(1, requires_grad=True)], Training(lr=1e-2), lr=1e-4).param_groups[0]["lr"] == 1e-4

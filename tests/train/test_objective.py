"""The training loss against sums written out pixel by pixel, and the pace against torch's own scheduler."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from netweight.settings import parse
from netweight.train import Training, bce_tversky, distillation
from netweight.train._pace import Pace


def by_hand(logits: np.ndarray, masks: np.ndarray) -> float:
    """Pixel by pixel, in Python's own floats."""
    entropy, indices = [], []
    for image, mask in zip(logits, masks, strict=True):
        hit = alarm = missed = 0.0
        for z, m in zip(image.ravel().tolist(), mask.ravel().tolist(), strict=True):
            z = min(max(z, -20.0), 20.0)
            p = 1 / (1 + math.exp(-z))
            entropy.append(-math.log(p) if m else -math.log(1 - p) if p < 1 else z)
            hit, alarm, missed = hit + p * m, alarm + p * (1 - m), missed + (1 - p) * m
        indices.append((hit + 1e-5) / (hit + 0.3 * alarm + 0.7 * missed + 1e-5))
    return float(np.mean(entropy)) + 1 - float(np.mean(indices))


def test_the_loss_equals_the_sums_written_out():
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 3, (5, 6, 7)).astype(np.float32)
    logits[0, 0, 0], logits[1, 2, 3] = 40, -40
    masks = generator.random((5, 6, 7)) < 0.2
    masks[4] = False
    found = bce_tversky(torch.from_numpy(logits)[:, None], torch.from_numpy(masks))
    assert float(found) == pytest.approx(by_hand(logits, masks), rel=2e-6)


def test_a_missed_pixel_costs_more_than_a_false_alarm():
    masks = torch.zeros(1, 4, 4)
    masks[0, 0, :2] = 1
    sure = 8 * (2 * masks - 1)
    missed, alarm = sure.clone(), sure.clone()
    missed[0, 0, 0] *= -1
    alarm[0, 3, 3] *= -1
    assert bce_tversky(missed[:, None], masks) > bce_tversky(alarm[:, None], masks) + 0.1


def test_an_empty_mask_without_alarm_costs_nothing():
    found = float(bce_tversky(torch.full((2, 1, 4, 4), -20.0), torch.zeros(2, 4, 4)))
    assert found == pytest.approx(by_hand(np.full((2, 4, 4), -20.0), np.zeros((2, 4, 4))), rel=1e-3)  # 1 - 0.999
    assert (
        found < 1.1 * 16 * 0.3 * math.exp(-20) / 1e-5
    )  # what is left: sixteen alarms of e^-20 beside the smoothing term


def test_distillation_is_least_where_the_teacher_is_met():
    teacher = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    student = teacher.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(distillation(student, teacher), student)
    assert gradient.abs().max() < 1e-7
    assert distillation(teacher + 0.5, teacher) > distillation(teacher, teacher)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
def test_distillation_is_the_cross_entropy_of_softened_pixels(temperature):
    logits, teacher = np.random.default_rng(2).normal(0, 3, (2, 3, 1, 4, 4))
    p, q = (1 / (1 + np.exp(-z / temperature)) for z in (logits, teacher))
    want = temperature**2 * -(q * np.log(p) + (1 - q) * np.log(1 - p)).mean()
    found = distillation(torch.from_numpy(logits), torch.from_numpy(teacher), temperature=temperature)
    assert float(found) == pytest.approx(want, rel=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_the_rate_follows_torch_s_plateaus(seed):
    settings = parse(Training, {"patience": 3, "epochs": 60}, "test")
    losses = (np.random.default_rng(seed).random(60) + np.linspace(2, 1.4, 60)).tolist()
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=3)
    pace = Pace()
    for epoch, loss in enumerate(losses, 1):
        theirs.step(loss)
        pace.after(epoch, loss, settings)
        assert pace.share == pytest.approx(optimizer.param_groups[0]["lr"])
    assert pace.share < 1 and pace.over

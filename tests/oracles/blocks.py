"""Oracles of four methods that learn quantization from a block's outputs, for one linear layer y = x W^T.

* ``omniquant``: learnable weight clipping of OmniQuant (arXiv 2308.13137, equation 2).
* ``signround``: AutoRound's signed gradient descent on rounding and range (arXiv 2309.05516, equations 3 to 5).
* ``tesseraq``: progressive adaptive rounding and dequantization scale tuning of TesseraQ (arXiv 2410.19103).
* ``block_qat``: block-wise training of all parameters, phase 1 of EfficientQAT (arXiv 2407.11062).
* AdamW: decoupled weight decay (arXiv 1711.05101), the decay multiplied by the learning rate.

Every weight is value = (code - zero) * scale, with a whole code and zero in 0 .. top = 2^bits - 1; O outputs, I inputs,
G groups of ``group`` columns, T tokens. The loss of a batch is mean (x W^T - target)^2, that of a step the mean over
its batches. All is plain float64 autograd; nothing chooses the best step: the answer is what the last step left.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Batches = Sequence[Tensor]  # inputs (T, I), or targets (T, O)
Order = Sequence[Sequence[int]]  # for every step the numbers of its batches
Answer = tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]  # codes (O, I), scale (O, G), zero (O, G), trained tensors
Quantized = tuple[Tensor, Tensor, Tensor]  # codes (O, I), scale (O, G), zero (O, G), with gradients

SMALLEST = 2.0**-24  # the smallest positive float16
NOISE = 1e-12  # an h this near to 0 or 1 is 0 or 1: logit and sigmoid of a weight that lies on the grid do not cancel
HARD = 20.0  # a logit whose rectified sigmoid is exactly 0 (negative) or 1 (positive)


def straight_through(x: Tensor, rounded: Tensor) -> Tensor:
    """The rounded value, with the gradient of x."""
    return x + (rounded - x).detach()


def round_ste(x: Tensor) -> Tensor:
    return straight_through(x, torch.round(x))


def stored(scale: Tensor) -> Tensor:
    """The scale as the file keeps it: a positive float16."""
    return scale.detach().to(torch.float16).to(torch.float64).clamp(min=SMALLEST)


def f16_ste(scale: Tensor) -> Tensor:
    return straight_through(scale, stored(scale))


def wide(per_group_OG: Tensor, group: int) -> Tensor:
    """(O, I): every group's number, once for each of its columns."""
    return per_group_OG.repeat_interleave(group, dim=1)


def decode(codes: Tensor, scale: Tensor, zero: Tensor, group: int) -> Tensor:
    return (codes - wide(zero, group)) * wide(scale, group)


def loss(value_OI: Tensor, xs: Batches, targets: Batches, numbers: Sequence[int]) -> Tensor:
    """The loss of one step."""
    return torch.stack([((xs[n] @ value_OI.T - targets[n]) ** 2).mean() for n in numbers]).mean()


def extremes(weight_OI: Tensor, group: int) -> tuple[Tensor, Tensor]:
    """(O, G) each: the lowest and the highest weight of every group, and 0 at least between them."""
    grouped = weight_OI.reshape(weight_OI.shape[0], -1, group)
    return grouped.amin(dim=2).clamp(max=0), grouped.amax(dim=2).clamp(min=0)


def grid(low_OG: Tensor, high_OG: Tensor, top: int) -> tuple[Tensor, Tensor]:
    """Scale and zero of the range low .. high; the zero has no gradient."""
    scale = f16_ste((high_OG - low_OG) / top)
    zero = torch.clamp(torch.round(-low_OG / scale), 0, top).detach()
    return scale, zero


def free(x: Tensor) -> Tensor:
    """A copy to train."""
    return x.detach().to(torch.float64).clone().requires_grad_()


def answer(quantized: Quantized, trained: dict[str, Tensor]) -> Answer:
    codes, scale, zero = (x.detach() for x in quantized)
    return codes.round().to(torch.int64), stored(scale), zero.round(), {k: p.detach() for k, p in trained.items()}


class AdamW:
    """One learning rate and one decay for every trained tensor."""

    def __init__(self, parameters: Sequence[Tensor], rates: Sequence[float], decays: Sequence[float]):
        self.parameters, self.rates, self.decays = parameters, rates, decays
        self.first = [torch.zeros_like(p) for p in parameters]
        self.second = [torch.zeros_like(p) for p in parameters]
        self.count = 0

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor], factor: float = 1.0) -> None:
        self.count += 1
        for k, (p, g) in enumerate(zip(self.parameters, gradients, strict=True)):
            rate = self.rates[k] * factor
            self.first[k] = 0.9 * self.first[k] + 0.1 * g
            self.second[k] = 0.999 * self.second[k] + 0.001 * g**2
            mean = self.first[k] / (1 - 0.9**self.count)
            square = self.second[k] / (1 - 0.999**self.count)
            p -= rate * self.decays[k] * p
            p -= rate * mean / (square.sqrt() + 1e-8)


def gradients(value: Callable[[], Tensor], parameters: Sequence[Tensor], xs, targets, numbers) -> tuple[Tensor, ...]:
    return torch.autograd.grad(loss(value(), xs, targets, numbers), parameters)


def omniquant(
    W: Tensor, bits: int, group: int, xs: Batches, targets: Batches, order: Order, lr: float, first_ratio: float
) -> Answer:
    """Learnable weight clipping: each group's two ends shrink by sigmoids of trained logits, beta low and gamma high."""
    top = 2**bits - 1
    low, high = extremes(W, group)
    ratio = min(first_ratio, 1 / (1 + math.exp(-4)))
    beta = free(torch.full_like(low, math.log(ratio / (1 - ratio))))
    gamma = free(beta)

    def quantized() -> Quantized:
        scale, zero = grid(low * torch.sigmoid(beta), high * torch.sigmoid(gamma), top)
        codes = torch.clamp(round_ste(W / wide(scale, group)) + wide(zero, group), 0, top)
        return codes, scale, zero

    parameters = [beta, gamma]
    optimizer = AdamW(parameters, [lr, lr], [0, 0])
    for numbers in order:
        optimizer.step(gradients(lambda: decode(*quantized(), group), parameters, xs, targets, numbers))
    return answer(quantized(), {"beta": beta, "gamma": gamma})


def signround(
    W: Tensor, bits: int, group: int, xs: Batches, targets: Batches, order: Order, lr: float, range_lr: float
) -> Answer:
    """A rounding offset v per weight and two range factors per group, moved by the sign of their gradients."""
    top = 2**bits - 1
    low, high = extremes(W, group)
    v = free(torch.zeros_like(W))
    f_low, f_high = free(torch.ones_like(low)), free(torch.ones_like(high))

    def quantized() -> Quantized:
        scale, zero = grid(low * f_low, high * f_high, top)
        codes = torch.clamp(round_ste(W / wide(scale, group) + v) + wide(zero, group), 0, top)
        return codes, scale, zero

    parameters = [v, f_low, f_high]
    for t, numbers in enumerate(order):
        found = gradients(lambda: decode(*quantized(), group), parameters, xs, targets, numbers)
        factor = 1 - t / len(order)
        with torch.no_grad():
            for p, g, rate in zip(parameters, found, [lr, range_lr, range_lr], strict=True):
                p -= rate * factor * torch.sign(g)
            v.clamp_(-0.5, 0.5)
            f_low.clamp_(0, 1)
            f_high.clamp_(0, 1)
    return answer(quantized(), {"v": v, "f_low": f_low, "f_high": f_high})


def rectified_sigmoid(nu: Tensor) -> Tensor:
    """h(nu) = clip(1.2 sigmoid(nu) - 0.1, 0, 1); where it is 0 or 1 the gradient is 0, at the very ends too."""
    h = 1.2 * torch.sigmoid(nu) - 0.1
    between = (h > NOISE) & (h < 1 - NOISE)
    return torch.where(between, h, h.detach().round().clamp(0, 1))


@torch.no_grad()
def harden(nu: Tensor, soft_share: float) -> None:
    """Leave soft the share of the layer's weights that are least decided; fix the others up or down."""
    h = rectified_sigmoid(nu)
    score = (h - 0.5).abs()
    keep = int(soft_share * nu.numel())
    bound = score.flatten().sort().values[keep - 1].item() if keep > 0 else -math.inf
    fixed = score > bound
    nu[fixed & (h >= 0.5)] = HARD
    nu[fixed & (h < 0.5)] = -HARD


def tesseraq(
    W: Tensor, bits: int, group: int, scale: Tensor, zero: Tensor, xs: Batches, targets: Batches,
    soft: Sequence[float], iterations: int, order: Order, lr: float, scale_lr: float, scale_decay: float,
) -> Answer:  # fmt: skip
    """Each weight learns whether to go up or down; stage by stage more are fixed; r tunes the decoding scale."""
    top = 2**bits - 1
    ratio, wide_zero = W / wide(scale, group), wide(zero, group)
    lower = torch.clamp(torch.floor(ratio) + wide_zero, 0, top)
    upper = torch.clamp(torch.floor(ratio) + 1 + wide_zero, 0, top)
    between = torch.clamp((ratio - (lower - wide_zero)) / (upper - lower), 0, 1)
    first = torch.where(upper > lower, between, torch.zeros_like(between))
    nu = free(torch.logit((first + 0.1) / 1.2))
    r = free(torch.zeros_like(scale))

    def quantized(h: Tensor) -> Quantized:
        return lower + h * (upper - lower), f16_ste(scale * 2 * torch.sigmoid(r)), zero

    parameters = [nu, r]
    for stage, soft_share in enumerate(soft):
        harden(nu, soft_share)
        optimizer = AdamW(parameters, [lr, scale_lr], [0, scale_decay])
        for numbers in order[stage * iterations : (stage + 1) * iterations]:
            found = gradients(
                lambda: decode(*quantized(rectified_sigmoid(nu)), group), parameters, xs, targets, numbers
            )
            optimizer.step(found)
    chosen = (rectified_sigmoid(nu) >= 0.5).to(torch.float64)
    return answer(quantized(chosen), {"nu": nu, "r": r})


def block_qat(
    W: Tensor, bits: int, group: int, scale: Tensor, zero: Tensor, xs: Batches, targets: Batches, order: Order,
    weight_lr: float, scale_lr: float,
) -> Answer:  # fmt: skip
    """Weights, scales (by their logarithm t) and zeros z trained together; the rates fall as a cosine."""
    top = 2**bits - 1
    weight, t, z = free(W), free(torch.zeros_like(scale)), free(zero)

    def quantized() -> Quantized:
        scale_now = f16_ste(scale * torch.exp(t))
        zero_now = straight_through(z, torch.clamp(torch.round(z), 0, top))
        codes = torch.clamp(round_ste(weight / wide(scale_now, group)) + wide(zero_now, group), 0, top)
        return codes, scale_now, zero_now

    parameters = [weight, t, z]
    optimizer = AdamW(parameters, [weight_lr, scale_lr, scale_lr], [0, 0, 0])
    for step, numbers in enumerate(order):
        factor = 0.5 * (1 + math.cos(math.pi * step / len(order)))
        optimizer.step(gradients(lambda: decode(*quantized(), group), parameters, xs, targets, numbers), factor)
    return answer(quantized(), {"W": weight, "t": t, "z": z})

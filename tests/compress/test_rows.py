"""What a row of a loss is: a token with its features, or a pixel with its channels, wherever the channels lie."""

from __future__ import annotations

import itertools

import pytest
import torch
from scipy.stats import wasserstein_distance
from torch import Tensor, nn

import nets
import tiny
from netweight import formats, models
from netweight.compress import _observe
from netweight.compress._parallel import pool
from netweight.compress._problem import Problem, Training
from netweight.compress._train import Trainer
from netweight.jobs.compress import compress as job
from netweight.losses import _directions, sliced_wasserstein
from netweight.settings import parse


class Swapped(nn.Module):
    """A linear layer over channels that come first, and come first again in what it gives."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.movedim(1, -1)).movedim(-1, 1)


class LastChannels(nn.Module):
    """A convolution whose result is given with its channels last."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).movedim(1, -1)


@pytest.mark.parametrize(
    "module, shape, want",
    [
        (nn.Conv2d(3, 5, 1), (2, 3, 8, 6), 1),
        (nn.Conv2d(3, 8, 1), (2, 3, 8, 8), 1),  # as many columns as channels
        (nn.Conv3d(3, 5, 1), (2, 3, 4, 4, 4), 1),
        (nn.ConvTranspose2d(3, 5, 2, stride=2), (2, 3, 4, 4), 1),
        (nn.Conv2d(3, 5, 1), (3, 8, 6), 0),  # one image, not a batch
        (nn.Sequential(nn.Conv2d(3, 8, 1), nn.PixelShuffle(2)), (2, 3, 4, 3), 1),  # 2 channels of 8
        (nn.Conv1d(3, 5, 1), (2, 3, 8), 1),
        (nn.Linear(3, 5), (2, 8, 3), -1),
        (nn.Linear(3, 5), (2, 6, 6, 3), -1),
        (nn.Linear(3, 8), (2, 8, 3), -1),  # as many tokens as features
        (Swapped(), (2, 3, 8, 6), 1),
        (LastChannels(), (2, 3, 8, 6), -1),
        (nn.Sequential(nn.Conv2d(3, 5, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 7)), (2, 3, 8, 6), -1),
        (nn.ReLU(), (2, 3, 8, 6), -1),  # nothing to go by
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else str(value),
)
def test_the_axis_of_channels_is_found_from_the_last_layer_to_run(module, shape, want):
    with torch.no_grad():
        assert _observe.channel_axis(module, module, torch.randn(shape)) == want


def sliced(y_NC, x_NC, directions) -> float:
    """Of two lists of pixels, line by line, with scipy."""
    pairs = ((y_NC @ u, x_NC @ u) for u in directions.double().numpy())
    found = [wasserstein_distance(a, b) for a, b in pairs]
    return sum(found) / len(found)


def pixels(x: Tensor):
    """(B, C, spatial...) as a list of pixels, each with its channels, one after the other."""
    places = itertools.product(range(len(x)), *(range(n) for n in x.shape[2:]))
    return torch.stack([x[(b, slice(None), *rest)] for b, *rest in places]).double().numpy()


@pytest.mark.parametrize("size", [(6, 4), (3, 4, 2)])
def test_a_point_of_the_sliced_term_is_a_pixel_with_its_channels(size):
    conv = nets.filled((nn.Conv2d if len(size) == 2 else nn.Conv3d)(3, 5, 1))
    images = nets.images(2, size=size)
    wanted = [
        conv(x).detach() + 0.3 * torch.randn(conv(x).shape, generator=torch.Generator().manual_seed(4)) for x in images
    ]
    loss = {"use": "sliced_wasserstein", "projections": 7}
    with torch.no_grad(), pool(1) as workers:
        problem = Problem("", conv, {"": ""}, {"": formats.get("int4-channel")}, lambda module, n: module(images[n]), [wanted],
                          dict, (), workers, 0, channels=_observe.channel_axis(conv, conv, images[0]))  # fmt: skip
        found = Trainer(problem, [], parse(Training, {"loss": loss}, "test")).held_loss()["total"]
        want = 0.0
        for number, x in enumerate(images):
            y_NC, x_NC = pixels(conv(x)), pixels(wanted[number])
            chosen = parse(sliced_wasserstein.Settings, {"projections": 7}, "test")
            rows = torch.zeros(1, 5)  # directions that are uniform on the sphere ask only for its dimension
            want += sliced(y_NC, x_NC, _directions.draw(rows, rows, chosen, problem.generator("loss", "held", number)))
    assert found == pytest.approx(want / 2, rel=1e-5)


def said(artifact, term: str) -> float:
    row = next(row for row in artifact.ledger if row.action == "quantized")
    note = next(note for note in row.notes if f"{term} " in note)
    return float(note.split(f"{term} ")[1].split(" to ")[0])


def cosine_to(layout: str, y: Tensor, x: Tensor) -> float:
    if layout == "first":
        y, x = y.movedim(1, -1), x.movedim(1, -1)
    return float(1 - nn.functional.cosine_similarity(y.double(), x.double(), dim=-1).mean())


@pytest.mark.parametrize("channels", ["first", "last", None])
def test_a_recipe_may_say_where_channels_lie(channels, tmp_path):
    """The loss before training, which is that of round-to-nearest."""
    module, images = nets.filled(nn.Conv2d(3, 6, 3)), nets.images(2)
    more = {} if channels is None else {"channels": channels}
    step = tiny.step("block_qat", "int2-channel", start="minmax", epochs=1, loss="cosine", **more)
    artifact = job(module, {"step": [step]}, out=tmp_path / "out", calibration=images, threads=1)
    rounded = nets.filled(nn.Conv2d(3, 6, 3))
    models.set_matrix(rounded, formats.quantize(models.matrix_of(module), formats.get("int2-channel")).decode())
    with torch.no_grad():
        pairs = [(rounded(x), module(x)) for x in images]
    want, other = (
        sum(cosine_to(layout, *pair) for pair in pairs) / 2
        for layout in (("last", "first") if channels == "last" else ("first", "last"))
    )
    assert said(artifact, "cosine") == pytest.approx(want, rel=1e-3)  # four digits are said
    assert abs(other - want) > 0.05 * want  # the axes can be told apart here

"""A live convolutional network: compress it with its own batches, prove what that cost in top-1 accuracy, write the report.

    NETWEIGHT_DATA=<folder> python examples/vision.py --out vision-out
    NETWEIGHT_DATA=<folder> python examples/vision.py --out vision-out --bits 3 2    # methods beside each other, block by block

Any torch module with linear, convolution or embedding layers works the same way. Here it is a ResNet for CIFAR-10 (He et al.,
arXiv 1512.03385, section 4.2) with published weights. The data folder must hold ``resnet-cifar10-weights`` and ``cifar10-jpeg``;
without them there is nothing to do, and the example says so.
"""

from __future__ import annotations

import argparse
import io
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

import netweight
from netweight import data, recipe
from netweight.cli import progress_bars, show
from netweight.evaluate import Labelled, task

WEIGHTS = {20: "resnet20-12fca82f.th", 56: "resnet56-4bfd9763.th"}
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # what the weights were trained with
RECIPE = {
    "name": "int4 GPTQ",
    "step": [{"use": "gptq", "format": "int4-channel", "range": "output", "skip": ["conv1", "linear"]}],
}
METHODS = {
    "rtn": {},
    "omniquant": {"epochs": 10, "clip_lr": 0.03},
    "block_qat": {"epochs": 10, "weight_lr": 2e-3},
}


def low(method: str, bits: int, epochs: int | None) -> dict:
    """One method in few bits, residual block after residual block; the first and the last layer stay as they are."""
    chosen = dict(METHODS[method])
    if epochs is not None and "epochs" in chosen:
        chosen["epochs"] = epochs
    step = {"use": method, "format": f"int{bits}-channel", "skip": ["conv1", "linear"], **chosen}
    return {"name": f"int{bits} {method}", "blocks": ["layer?.?"], "step": [step]}


class Block(nn.Module):
    """Two 3x3 convolutions around a shortcut that has no weights: every second pixel, and zeros for new channels."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride, self.more = stride, outputs - inputs

    def forward(self, x_NCHW: Tensor) -> Tensor:
        y_NCHW = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x_NCHW)))))
        short = x_NCHW[:, :, :: self.stride, :: self.stride]
        return F.relu(y_NCHW + F.pad(short, (0, 0, 0, 0, self.more // 2, self.more - self.more // 2)))


class ResNet(nn.Module):
    """``depth`` = 6 n + 2 layers: three stages of n blocks with 16, 32 and 64 channels."""

    def __init__(self, depth: int = 20) -> None:
        super().__init__()
        n = (depth - 2) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(*(Block(16, 16, 1) for _ in range(n)))
        self.layer2 = nn.Sequential(*(Block(16 if i == 0 else 32, 32, 2 if i == 0 else 1) for i in range(n)))
        self.layer3 = nn.Sequential(*(Block(32 if i == 0 else 64, 64, 2 if i == 0 else 1) for i in range(n)))
        self.linear = nn.Linear(64, 10)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        x_NCHW = F.relu(self.bn1(self.conv1(x_NCHW)))
        x_NCHW = self.layer3(self.layer2(self.layer1(x_NCHW)))
        return self.linear(x_NCHW.mean((2, 3)))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Compress a live vision model and prove what it cost.")
    parser.add_argument("--out", type=Path, default=Path("vision-out"), help="folder for the artifact and the report")
    parser.add_argument("--depth", type=int, choices=tuple(WEIGHTS), default=20, help="layers of the network")
    parser.add_argument("--images", type=int, default=1000, help="test images")
    parser.add_argument("--calibration", type=int, default=256, help="training images that the method looks at")
    parser.add_argument(
        "--bits", type=int, nargs="*", default=[], help="compare methods in these bits, in place of int4"
    )
    parser.add_argument("--epochs", type=int, help="passes over the training images, for the methods that train")
    settings = parser.parse_args(arguments)
    folder = data.folder()
    needed = ("resnet-cifar10-weights", "cifar10-jpeg")
    if folder is None or not all((folder / name).is_dir() for name in needed):
        print(f"nothing to do: {' and '.join(needed)} are not in the folder that NETWEIGHT_DATA names")
        return 0
    if settings.out.exists():
        shutil.rmtree(settings.out)
    settings.out.mkdir(parents=True)
    module = resnet(folder / needed[0] / WEIGHTS[settings.depth], settings.depth)
    seen, _ = images(folder / needed[1] / "train_10k.npz", settings.calibration)
    pictures, labels = images(folder / needed[1] / "test_a_5k.npz", settings.images)
    test = Labelled(pictures, labels, "cifar10-jpeg", f"test_a, {settings.images} spread evenly")
    tasks = [task("bytes"), task("top1_accuracy", test), task("latency", test, batch=32, repetitions=5)]
    with progress_bars() as progress:
        chosen = {f"int{b}-{name}": low(name, b, settings.epochs) for b in settings.bits for name in METHODS}
        chosen = chosen or {"int4": RECIPE}
        made = [settings.out / name for name in chosen]
        for out, table in zip(made, chosen.values(), strict=True):
            batches = seen.split(16)
            show(netweight.compress(module, recipe.load(table), out=out, calibration=batches, progress=progress))
        claims = netweight.evaluate(made, against=module, tasks=tasks, batch_size=64, progress=progress)
    show(claims)
    show(netweight.report(made, out=settings.out / "report.html"))
    return 0


def resnet(checkpoint: Path, depth: int) -> ResNet:
    """The network with its trained weights."""
    stored = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    module = ResNet(depth)
    module.load_state_dict({name.removeprefix("module."): tensor for name, tensor in stored.items()})
    return module.eval()


def images(path: Path, count: int) -> tuple[Tensor, Tensor]:
    """``count`` images spread evenly over a file, normalised (N, 3, 32, 32), and their classes (N,)."""
    file = np.load(path)
    jpeg, offset = file["jpeg"], file["offset"]
    chosen = np.linspace(0, len(offset) - 2, count).astype(int)
    pixels = [np.asarray(Image.open(io.BytesIO(jpeg[offset[i] : offset[i + 1]].tobytes()))) for i in chosen]
    x_NHWC = torch.from_numpy(np.stack(pixels)).float() / 255
    x_NHWC = (x_NHWC - torch.tensor(MEAN)) / torch.tensor(DEVIATION)
    return x_NHWC.permute(0, 3, 1, 2).contiguous(), torch.from_numpy(file["label"][chosen].astype(np.int64))


if __name__ == "__main__":
    sys.exit(main())

"""Nets of MONAI through the whole job: every method that trains, sums of losses, tuning, the ledger, verify."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import nets
import netweight
import tiny
from netweight import models
from netweight.jobs.compress import compress as job

pytest.importorskip("monai", reason="MONAI is not installed: pip install -c constraints.txt -e '.[monai]'")
from monai.networks.nets import SwinUNETR, UNet

KINDS = {"Linear": "linear", "Conv2d": "conv2d", "Conv3d": "conv3d", "ConvTranspose2d": "conv_transpose2d",
         "ConvTranspose3d": "conv_transpose3d"}  # fmt: skip
FEW = {"start": "minmax"}
METHODS = {
    "omniquant": {"epochs": 6, "clip_lr": 0.03},
    "signround": {"iterations": 12},
    "tesseraq": {"iterations": 12},
    "block_qat": {"epochs": 3, "weight_lr": 2e-3},
}
BLOCKS = {
    "unet": ["model.[02]", "model.1.submodule.[02]", "model.1.submodule.1.submodule"],
    "swin": ["swinViT.layers?.0.blocks.*", "encoder*", "decoder*"],
}


def unet(dims: int = 2) -> nn.Module:
    return UNet(dims, 1, 2, channels=(8, 16, 32), strides=(2, 2), num_res_units=1)


def swin(dims: int = 2) -> nn.Module:
    return SwinUNETR(in_channels=1, out_channels=2, feature_size=12, spatial_dims=dims, depths=(1, 1, 1, 1),
                     num_heads=(1, 2, 4, 8), window_size=4)  # fmt: skip


def net(name: str, dims: int = 2) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nets.filled({"unet": unet, "swin": swin}[name](dims))


def images(name: str, count: int = 8, *, dims: int = 2, seed: int = 1) -> list[torch.Tensor]:
    """SwinUNETR's lowest level is 32 times smaller, and its norms need two pixels there."""
    size = (16,) * dims if name == "unet" else (64, *(32,) * (dims - 1))
    return nets.images(count, channels=1, size=size, rows=1, seed=seed)


def gone(name: str, artifact, original: nn.Module, *, dims: int = 2) -> float:
    """Mean squared distance from the original on images that calibration has not seen, decoded from the file."""
    module = copy.deepcopy(original)
    module.load_state_dict({n: artifact.tensor(n) for n in artifact.plain_names()}, strict=False)
    for layer in artifact.manifest.layers:
        models.set_matrix(module.get_submodule(layer), artifact.qtensor(layer).decode())
    with torch.no_grad():
        return sum(float((module(x) - original(x)).square().mean()) for x in images(name, 3, dims=dims, seed=99))


def compress(name: str, out, *steps, dims: int = 2, blocks=(), **options):
    chosen = {"step": list(steps), "blocks": list(blocks)}
    options = {"threads": 1, "calibration": images(name, dims=dims), **options}
    return job(net(name, dims), chosen, out=out, **options)


@pytest.fixture(scope="module")
def rounded(tmp_path_factory):
    """Round-to-nearest, where training begins."""
    return {n: compress(n, tmp_path_factory.mktemp(n) / "out", tiny.step("rtn", "int3-channel")) for n in BLOCKS}


def held_out(artifact, term: str = "mse") -> list[tuple[float, float]]:
    """Each layer's loss before and after training, as its ledger row says."""
    pairs = []
    for row in artifact.ledger:
        for note in row.notes:
            if f"{term} " in note and " on held-out" in note:
                words = note.split(f"{term} ")[1].split(",")[0].split(" on ")[0].split(" to ")
                pairs.append((float(words[0]), float(words[1])))
    return pairs


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", BLOCKS)
def test_every_method_that_trains_brings_unseen_images_closer_to_the_original(name, method, rounded, tmp_path):
    step = tiny.step(method, "int3-channel", **METHODS[method], **FEW)
    artifact = compress(name, tmp_path / "out", step, blocks=BLOCKS[name])
    original = net(name)
    assert gone(name, artifact, original) < gone(name, rounded[name], original)
    pairs = held_out(artifact)
    assert len(pairs) == len(artifact.manifest.layers) and all(b <= a for a, b in pairs)
    assert sum(b < a for a, b in pairs) > 0.7 * len(pairs)  # of blocks of one small layer, a few find nothing better
    assert netweight.verify(artifact, threads=1).failures() == ()


@pytest.mark.parametrize("name", BLOCKS)
def test_every_layer_is_accounted_for_and_what_is_no_layer_is_as_it_was(name, rounded):
    original = net(name)
    want = {n: KINDS[kind] for n, m in original.named_modules() if (kind := type(m).__name__) in KINDS}
    assert {row.module: row.kind for row in rounded[name].ledger} == want
    assert {row.module for row in rounded[name].ledger if row.action == "quantized"} == set(want)
    kinds = set(want.values())
    assert {"conv2d", "conv_transpose2d"} <= kinds and (name == "unet" or "linear" in kinds)
    kept = {n: t for n, t in original.state_dict().items() if n.removesuffix(".weight") not in want}
    assert all(torch.equal(rounded[name].tensor(n), t) for n, t in kept.items())
    if name == "swin":
        assert sum("relative_position_bias_table" in n for n in kept) == 4


@pytest.mark.parametrize("name", BLOCKS)
def test_a_loss_with_a_sliced_term_trains_pixels(name, rounded, tmp_path):
    step = tiny.step("block_qat", "int3-channel", **METHODS["block_qat"], **FEW,
                     loss={"use": "mse+sw", "sw": 0.1, "projections": 16})  # fmt: skip
    artifact = compress(name, tmp_path / "out", step, blocks=BLOCKS[name])
    original = net(name)
    assert gone(name, artifact, original) < gone(name, rounded[name], original)
    pairs = held_out(artifact, "sliced_wasserstein")
    assert len(pairs) == len(artifact.manifest.layers)
    assert sum(b for _, b in pairs) < sum(a for a, _ in pairs)


@pytest.mark.parametrize("name", BLOCKS)
def test_scales_of_the_whole_net_are_tuned(name, rounded, tmp_path):
    tune = tiny.step("e2e_scales", loss="mse", lr=5e-3, epochs=4)
    artifact = compress(name, tmp_path / "out", tiny.step("rtn", "int3-channel"), tune)
    original = net(name)
    assert gone(name, artifact, original) < gone(name, rounded[name], original)


@pytest.mark.parametrize("name", BLOCKS)
def test_the_bytes_do_not_depend_on_threads(name, tmp_path):
    step = tiny.step("block_qat", "int3-channel", epochs=1, **FEW)
    files = []
    for threads in (1, 2):
        out = tmp_path / str(threads)
        compress(name, out, step, blocks=BLOCKS[name], threads=threads, calibration=images(name, 4))
        files.append(tiny.hashed_files(out))
    assert files[0] == files[1]


@pytest.mark.parametrize("name", BLOCKS)
def test_volumes_are_trained_too(name, tmp_path):
    step = tiny.step("block_qat", "int3-channel", epochs=2, weight_lr=2e-3, held_out=0.0, **FEW)
    options = {"dims": 3, "blocks": BLOCKS[name], "calibration": images(name, 2, dims=3)}
    plain = compress(name, tmp_path / "rtn", tiny.step("rtn", "int3-channel"), **options)
    artifact = compress(name, tmp_path / "qat", step, **options)
    original = net(name, 3)
    assert {"conv3d", "conv_transpose3d"} <= {row.kind for row in artifact.ledger}
    assert gone(name, artifact, original, dims=3) < gone(name, plain, original, dims=3)

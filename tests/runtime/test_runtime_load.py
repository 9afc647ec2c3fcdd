"""An artifact in memory: its weights are the decoded ones, its paths are said, and what does not fit is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import netweight
from netweight import recipe, runtime
from netweight.artifact import open_artifact
from netweight.errors import ArtifactError, CorruptError, ModelError
from netweight.runtime import kernels

RECIPE = recipe.load({"name": "four bits", "step": [{"use": "rtn", "format": "int4-g32"}]})


@pytest.fixture(scope="module")
def artifact(tmp_path_factory, tiny_folder: Path) -> Path:
    out = tmp_path_factory.mktemp("runtime") / "int4"
    netweight.compress(tiny_folder, RECIPE, out=out, threads=1)
    return out


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(32, 64), nn.BatchNorm1d(64), nn.Dropout(0.5), nn.Linear(64, 4))


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runtime") / "plain"
    module = net()
    module[1].running_mean.fill_(0.5)
    netweight.compress(module, RECIPE, out=out, threads=1)
    return out


def test_weights_in_memory_are_the_decoded_ones(artifact: Path):
    loaded, opened = runtime.load(artifact, kernels="off"), open_artifact(artifact)
    for layer in opened.manifest.layers:
        assert torch.equal(loaded.module.get_parameter(f"{layer}.weight"), opened.qtensor(layer).decode())


def test_the_summary_hides_no_slow_path(artifact: Path):
    loaded = runtime.load(artifact, kernels="off")
    assert loaded.summary().startswith("14 layers int4-g32: decoded once at load to float32 (speed and memory are ")
    assert set(loaded.paths) == set(open_artifact(artifact).manifest.layers)
    assert not loaded.module.training


@pytest.mark.skipif(kernels.missing() is not None, reason="no compiled kernels")
def test_kernels_are_left_out_where_torch_is_faster_and_nowhere_else(tiny_folder: Path, tmp_path: Path):
    step = {"use": "rtn", "format": "nvfp4", "activations": "nvfp4"}
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.ConvTranspose2d(32, 16, 4, 2, 1))
    batches = [torch.randn(2, 16, 8, 8)]
    netweight.compress(net, recipe.load({"step": [step]}), out=tmp_path / "net", threads=1, calibration=batches)
    auto, off = runtime.load(tmp_path / "net", into=net), runtime.load(tmp_path / "net", into=net, kernels="off")
    reason = "torch's product of floats is faster than the kernel's; inputs rounded to nvfp4"
    assert auto.paths["0"] == f"decoded once at load to float32 ({reason})" and reason not in off.summary()
    assert torch.equal(auto.module(batches[0]), off.module(batches[0]))
    exact = runtime.load(tmp_path / "net", into=net, kernels="exact")
    assert "kernel, float32 activations" in exact.paths["0"]
    torch.testing.assert_close(exact.module(batches[0]), off.module(batches[0]), rtol=1e-4, atol=1e-5)
    netweight.compress(tiny_folder, recipe.load({"step": [step]}), out=tmp_path / "text", threads=1)
    assert all(" kernel, inputs rounded to nvfp4" in path for path in runtime.load(tmp_path / "text").paths.values())


def test_tied_weights_stay_one_tensor_and_are_counted_once(artifact: Path):
    module = runtime.load(artifact, kernels="off").module
    assert module.lm_head.weight is module.model.embed_tokens.weight
    own = {p.data_ptr(): p.nbytes for p in module.parameters()} | {b.data_ptr(): b.nbytes for b in module.buffers()}
    assert runtime.bytes_in_memory(module) == sum(own.values())


def test_a_changed_file_is_not_loaded(artifact: Path, tmp_path: Path):
    import shutil

    shutil.copytree(artifact, tmp_path / "changed")
    with open(tmp_path / "changed" / "model.safetensors", "r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x01")
    with pytest.raises(CorruptError, match=r"model\.safetensors differs .* fetch the artifact again"):
        runtime.load(tmp_path / "changed")


def test_a_plain_module_needs_its_architecture_and_is_not_changed(plain: Path):
    with pytest.raises(ArtifactError, match="pass the module's architecture"):
        runtime.load(plain)
    into = net()
    before = [p.clone() for p in into.parameters()]
    loaded = runtime.load(plain, into=into)
    assert all(torch.equal(a, b) for a, b in zip(before, into.parameters(), strict=True))
    assert float(loaded.module[1].running_mean.mean()) == 0.5
    assert not loaded.module.training  # dropout and batch statistics would change what it computes


@pytest.mark.skipif(kernels.missing() is not None, reason="no compiled kernels")
def test_torchs_own_encoder_runs_packed(tmp_path: Path):
    """Left to itself it would read weights that packed layers have not, and attention reads its last layer's in any case."""
    torch.manual_seed(0)
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(64, 4, 128, batch_first=True), 2).eval()
    netweight.compress(encoder, RECIPE, out=tmp_path / "small", threads=1)
    x, padding = torch.randn(3, 5, 64), torch.arange(5) >= torch.tensor([[3], [5], [5]])
    packed, decoded = (runtime.load(tmp_path / "small", into=encoder, kernels=how) for how in ("exact", "off"))
    ran = {name.rpartition(".")[2] for name, path in packed.paths.items() if "kernel, float32 activations" in path}
    assert ran == {"linear1", "linear2"}
    with torch.no_grad():
        for given in ({}, {"src_key_padding_mask": padding}):
            ours, theirs = packed.module(x, **given), decoded.module(x, **given)
            torch.testing.assert_close(ours[1:], theirs[1:], rtol=1e-4, atol=1e-4)
            assert (theirs - encoder(x, **given))[1:].abs().max() > 1e-2


def test_an_architecture_that_does_not_fit_is_refused(plain: Path):
    with pytest.raises((ModelError, ArtifactError), match=r"3\.weight|shape"):
        runtime.load(plain, into=nn.Sequential(nn.Linear(32, 64), nn.BatchNorm1d(64), nn.Dropout(), nn.Linear(64, 5)))
    with pytest.raises((ModelError, ArtifactError), match=r"4\.weight|lacks|missing"):
        runtime.load(plain, into=nn.Sequential(*net(), nn.Linear(4, 4)))


def test_a_folder_that_is_no_artifact_says_so(tmp_path: Path):
    with pytest.raises(ArtifactError, match=r"has no netweight\.json"):
        runtime.load(tmp_path)

"""bench: contestants take turns on real work, shares are of a measured read speed, and wrong requests are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import netweight
from netweight import recipe
from netweight.cli import main
from netweight.errors import ArtifactError, KernelError, SettingsError
from netweight.jobs import bench as job
from netweight.runtime import kernels

PLAN = recipe.load({"name": "four", "step": [{"use": "rtn", "format": "int4-g32", "only": ["*"]}]})
QUICK = {"rounds": 7, "tokens": 2, "prompt_tokens": 5, "threads": 1}


@pytest.fixture(autouse=True)
def _small_reads(monkeypatch):
    monkeypatch.setattr(job, "READ_BYTES", 1 << 22)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory, tiny_folder: Path) -> Path:
    out = tmp_path_factory.mktemp("bench") / "four"
    netweight.compress(tiny_folder, PLAN, out=out, threads=1)
    return out


@pytest.mark.skipif(kernels.missing() is not None, reason="no compiled kernels")
def test_an_artifact_beside_its_decoded_weights(artifact: Path):
    found = netweight.bench(artifact, **QUICK)
    packed, decoded = found.contestants
    assert (packed.name, decoded.name) == ("packed", "decoded")
    assert f"{kernels.isa()} kernel" in packed.path
    assert packed.bytes_per_step < decoded.bytes_per_step / 2  # norms stay float32 in so small a model
    for speed in (packed.decode, packed.prefill, decoded.decode, found.read_gb_s):
        assert speed.n == 7 and 0 < speed.low <= speed.value <= speed.high
    share = packed.decode.value * packed.bytes_per_step / 1e9 / found.read_gb_s.value
    assert packed.read_share == pytest.approx(share)


def test_beside_the_original_as_json(artifact: Path, tiny_folder: Path):
    found = json.loads(netweight.bench(artifact, against=tiny_folder, json=True, **QUICK))
    assert [row["name"] for row in found["contestants"]] == ["packed", "original"]
    assert found["prompt_tokens"] == 5


def test_a_module_needs_an_example(tmp_path: Path):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8))
    netweight.compress(net, PLAN, out=tmp_path / "net", threads=1)
    with pytest.raises(SettingsError, match="pass an example input"):
        netweight.bench(tmp_path / "net", into=net, **QUICK)
    found = netweight.bench(tmp_path / "net", into=net, example=torch.randn(3, 64), **QUICK)
    assert found.contestants[0].decode is None and found.contestants[0].prefill.value > 0


def test_wrong_requests_are_refused(artifact: Path, tmp_path: Path):
    with pytest.raises(SettingsError, match="must be at least 1"):
        netweight.bench(artifact, rounds=0)
    net = nn.Sequential(nn.Linear(64, 64))
    odd = recipe.load({"name": "nf4", "step": [{"use": "rtn", "format": "nf4"}]})
    netweight.compress(net, odd, out=tmp_path / "nf4", threads=1)
    with pytest.raises(
        KernelError, match="no packed kernel for 1 layer, the first is 0: .*nf4: no kernel for nf4 codes"
    ):
        netweight.bench(tmp_path / "nf4", into=net, example=torch.zeros(1, 64), require_kernels=True, **QUICK)


def test_a_segmentation_net_is_measured_from_what_it_says_of_itself(vit_run: Path, baseline_run: Path, capsys):
    found = netweight.bench(vit_run / "packed", rounds=7, tokens=2, threads=1)
    assert [row.name for row in found.contestants] == ["packed", "decoded", "float32"]
    for row in found.contestants:
        assert row.latency.n == 14 and 0 < row.latency.p50_s <= row.latency.p99_s and row.decode is None
        assert 0.2 < row.prefill.value * row.latency.p50_s < 5 and row.bytes_in_memory > 4e5
    assert "rounded to nvfp4" in found.contestants[0].path and "no input is rounded" in found.contestants[2].path
    assert (
        main(
            ["bench", str(vit_run), "--against", str(baseline_run), "--rounds", "1", "--tokens", "1", "--threads", "1"]
        )
        == 0
    )
    shown = capsys.readouterr().out
    assert "p99" in shown and "images /s" in shown and "layers rounding as they were trained" in shown
    with pytest.raises(ArtifactError, match="no packed form to measure: its weights are not rounded"):
        netweight.bench(baseline_run)


@pytest.mark.skipif(kernels.missing() is not None, reason="no compiled kernels")
def test_kernels_are_taken_where_they_are_asked_for(vit_run: Path):
    found = netweight.bench(vit_run, rounds=1, tokens=1, threads=1, require_kernels=True)
    assert f"{kernels.isa()} kernel, inputs rounded to nvfp4" in found.contestants[0].path
    assert found.contestants[0].bytes_in_memory < found.contestants[1].bytes_in_memory / 2

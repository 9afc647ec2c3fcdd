"""One full round in one folder, made once: a model, two artifacts, their claims and a report. Tests change copies."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import netweight

RTN = """
name = "int4 by rounding"
[[step]]
use = "rtn"
format = "int4-g32"
"""
GPTQ = """
name = "int3 by GPTQ"
[calibration]
samples = 8
length = 64
[[step]]
use = "gptq"
format = "int3-g32"
"""

TRAINED = {
    "seed": 3,
    "net": {"use": "vit", "size": "500k"},
    "qat": {"use": "nvfp4-2d-rht-sr"},
    "data": {"size": 32, "split": {"shares": [0.5, 0.25, 0.25]}},
    "training": {"epochs": 2, "batch": 16, "lr": 1e-3, "optimizer": "adamw"},
}


@pytest.fixture(scope="session")
def finished(tmp_path_factory, tiny_folder: Path) -> Path:
    """``model``, ``rtn.toml``, ``gptq.toml``, ``int4``, ``int3`` and ``int3/report.html``, made with relative paths."""
    room = tmp_path_factory.mktemp("round")
    shutil.copytree(tiny_folder, room / "model")
    (room / "rtn.toml").write_text(RTN)
    (room / "gptq.toml").write_text(GPTQ)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(room)
        patch.delenv("NETWEIGHT_DATA", raising=False)
        netweight.compress("model", "rtn.toml", out="int4", threads=1)
        netweight.compress("model", "gptq.toml", out="int3", threads=1)
        netweight.evaluate(["int3", "int4"], against="model", preset="quick", threads=1)
        netweight.report(["int3", "int4"])
    return room


@pytest.fixture
def workplace(finished: Path, tmp_path: Path, monkeypatch) -> Path:
    """A copy of the finished round; we are in it, and no further data is at hand."""
    room = tmp_path / "work"
    shutil.copytree(finished, room)
    monkeypatch.chdir(room)
    monkeypatch.delenv("NETWEIGHT_DATA", raising=False)
    return room


@pytest.fixture
def change_claims() -> Callable[[Path, Callable], None]:
    """Rewrites an artifact's claims: ``change_claims(folder, lambda claim: claim)``."""
    from netweight.claim import read_claims, write_claims

    def change(folder: Path, function: Callable) -> None:
        path = folder / "claims.jsonl"
        write_claims(path, [function(claim) for claim in read_claims(path)])

    return change


@pytest.fixture(scope="session")
def vit_run(tmp_path_factory) -> Path:
    """A small net, hardly trained, in four bits, with its packed artifact: 6 patients to train, 3 to validate, 3 to test with."""
    out = tmp_path_factory.mktemp("runs") / "vit"
    netweight.train(TRAINED, data="phantom:12x6", out=out, threads=1)
    return out


@pytest.fixture(scope="session")
def baseline_run(tmp_path_factory) -> Path:
    """The same without any rounding, which has no packed artifact."""
    out = tmp_path_factory.mktemp("runs") / "baseline"
    netweight.train(TRAINED | {"qat": {"use": "baseline"}}, data="phantom:12x6", out=out, threads=1)
    return out

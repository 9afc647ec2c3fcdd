"""run: the path is said first, wrong requests are refused before anything is loaded, Ctrl-C ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import netweight
from netweight.cli import main
from netweight.errors import ArtifactError, SettingsError
from netweight.runtime import kernels


def test_the_command_says_the_path_and_then_the_text(workplace: Path, capsys):
    assert main(["run", "int4", "--prompt", "an object", "--max-tokens", "6"]) == 0
    shown = capsys.readouterr()
    path = "decoded once at load to float32 (" if kernels.missing() else f"{kernels.isa()} kernel; loaded in"
    assert shown.err.startswith(f"14 layers int4-g32: {path}")
    assert "transformers' loop (no native decode loop for heads 8 wide)" in shown.err or kernels.missing()
    assert shown.out == "".join(netweight.run("int4", prompt="an object", max_tokens=6)) + "\n"


def test_sampling_from_the_command_line_is_repeatable(workplace: Path, capsys):
    texts = []
    for seed in ("1", "1", "2"):
        words = ["run", "int4", "--prompt", "an", "--max-tokens", "8", "--temperature", "1.5", "--seed", seed]
        assert main(words) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] != texts[2]


def test_the_original_can_be_asked_too(workplace: Path):
    generation = netweight.run("model", prompt="an object", max_tokens=4)
    assert "an original, not an artifact" in generation.path and "".join(generation)


def test_a_wrong_request_is_refused_before_anything_is_loaded(workplace: Path, capsys):
    with pytest.raises(SettingsError, match="the prompt is empty"):
        netweight.run("nowhere", prompt="")
    assert main(["run", "nowhere", "--prompt", ""]) == 2
    assert "give some text to continue" in capsys.readouterr().err
    with pytest.raises(SettingsError, match="max_tokens = 0"):
        netweight.run("nowhere", prompt="a", max_tokens=0)


def test_an_artifact_of_no_language_model_is_refused(workplace: Path):
    recipe = netweight.Recipe((), name="nothing")
    from netweight import recipe as recipes

    recipe = recipes.load({"step": [{"use": "rtn", "format": "int8-g32"}]})
    netweight.compress(torch.nn.Sequential(torch.nn.Linear(32, 4)), recipe, out="plain", threads=1)
    with pytest.raises(ArtifactError, match="plain is no causal language model"):
        netweight.run("plain", prompt="a")


# Every linear layer takes 20 ms, so that the text is still being written when the signal comes.
SLOWLY = (
    "import sys, time, torch; forward = torch.nn.Linear.forward; "
    "torch.nn.Linear.forward = lambda self, x: (time.sleep(0.02), forward(self, x))[1]; "
)


def test_ctrl_c_ends_the_text_and_the_program(workplace: Path):
    script = SLOWLY + "from netweight.cli import main; sys.exit(main(sys.argv[1:]))"
    words = ["run", "int4", "--prompt", "an", "--max-tokens", "250", "--temperature", "3"]
    process = subprocess.Popen(
        [sys.executable, "-c", script, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs inherit it ignored
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.read(1)  # the text has begun
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130  # all 250 tokens would take longer than this
    assert process.stderr.read().decode().endswith("interrupted\n")

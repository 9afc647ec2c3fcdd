"""Folders of runs that are unfinished, damaged, changed or no folders at all: every verb says so in one line."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path

import pytest
import torch

import netweight
from netweight.cli._main import main
from netweight.errors import ArtifactError, CorruptError, DataError, ExistsError, ResourceError, SettingsError
from netweight.jobs import _runs
from netweight.train import STATE, Drawn, load_recipe

RECIPE = {
    "seed": 3,
    "net": {"use": "vit", "size": "500k"},
    "qat": {"use": "nvfp4-2d-rht-sr"},
    "data": {"size": 32, "split": {"shares": [0.5, 0.25, 0.25]}},
    "training": {"epochs": 2, "batch": 16, "lr": 1e-3, "optimizer": "adamw"},
}


class Stop(Exception):
    pass


def trained(out, **given):
    return netweight.train(RECIPE, data="phantom:12x6", out=out, threads=1, **given)


def interrupted(out: Path) -> Path:
    """A run that was stopped in its second pass."""

    def progress(what, done, total, note=""):
        if what == "steps" and done == 4:
            raise Stop

    with pytest.raises(Stop):
        trained(out, progress=progress)
    return out


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture
def copy(run, tmp_path) -> Path:
    return shutil.copytree(run.path, tmp_path / "copy")


@pytest.fixture(scope="module")
def begun(tmp_path_factory) -> Path:
    return interrupted(tmp_path_factory.mktemp("runs") / "begun")


def test_the_time_of_a_run_counts_what_it_took_before_it_was_interrupted(tmp_path):
    out = interrupted(tmp_path / "run")
    state = torch.load(out / STATE, weights_only=True)
    assert 0 < state["history"]["seconds"] < 1000
    state["history"]["seconds"] += 5000
    torch.save(state, out / STATE)
    assert 5000 < trained(out).seconds < 6000


@pytest.mark.parametrize("words", [["evaluate"], ["verify"], ["report"], ["run", "--prompt", "x"], ["bench"]])
def test_an_unfinished_run_is_told_alike_by_all_verbs(begun, words, capsys):
    verb, *options = words
    assert main([verb, str(begun), *options]) == 2
    assert (
        capsys.readouterr().err
        == f"error: {begun} holds a run that is not finished; the `netweight train` command that began it goes on with it\n"
    )


def test_an_unfinished_run_segments_nothing_and_teaches_nobody(begun, tmp_path):
    with pytest.raises(ArtifactError, match="not finished"):
        netweight.run(begun, images=tmp_path, masks_out=tmp_path / "masks")
    with pytest.raises(ArtifactError, match="not finished"):
        trained(tmp_path / "student", teacher=begun)


@pytest.mark.parametrize("verb", ["evaluate", "verify", "report"])
def test_a_folder_that_is_not_there_is_one_line(run, tmp_path, verb, capsys):
    assert main([verb, str(tmp_path / "nowhere")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "nowhere" in error


def test_a_report_of_a_run_and_a_folder_that_is_not_there_names_the_folder(run, tmp_path):
    with pytest.raises(ArtifactError, match="nowhere is neither a training run nor an artifact"):
        netweight.report([run.path, tmp_path / "nowhere"])


@pytest.mark.parametrize("name", ["begun.json", STATE])
@pytest.mark.parametrize("content", [b"", b"[]", b"\x80\x02garbage"])
def test_the_damaged_beginning_of_a_run_is_named_with_a_way_out(begun, tmp_path, name, content):
    copy = shutil.copytree(begun, tmp_path / "copy")
    (copy / name).write_bytes(content)
    with pytest.raises(CorruptError, match=f"{name} is damaged; remove .*copy to start over"):
        trained(copy)


@pytest.mark.parametrize("content", ["", "[]", "null", '{"data": {}}', '"text"'])
def test_a_damaged_record_is_named(copy, content):
    (copy / "training.json").write_text(content)
    with pytest.raises(CorruptError, match=r"training\.json is damaged"):
        _runs.read(copy)


def test_lost_weights_and_another_recipe_are_named(copy):
    text = (copy / "recipe.toml").read_text()
    (copy / "recipe.toml").write_text(text.replace("seed = 3", "seed = 4", 1))
    with pytest.raises(CorruptError, match=r"recipe\.toml is not the recipe that the net was trained by"):
        _runs.read(copy)
    (copy / "recipe.toml").write_text(text)
    (copy / "weights.safetensors").unlink()
    with pytest.raises(CorruptError, match=r"has no weights\.safetensors"):
        _runs.read(copy)


def test_claims_that_are_no_text_are_named(copy, capsys):
    (copy / "claims.jsonl").write_bytes(b"\xff\xfe\x00")
    assert main(["verify", str(copy)]) == 4 or "claims.jsonl is damaged" in capsys.readouterr().err


def test_verify_looks_at_whom_the_net_has_learnt_from(copy):
    checks = {check.what: check for check in netweight.verify(copy).checks}
    assert checks["seen.json"].status == "holds" and checks["seen.json"].detail.startswith("9 patients and ")
    seen = json.loads((copy / "seen.json").read_text())
    seen["patients"]["train"].pop()
    (copy / "seen.json").write_text(json.dumps(seen))
    with pytest.raises(CorruptError, match=r"seen\.json is not what"):
        netweight.verify(copy)
    (copy / "seen.json").unlink()
    with pytest.raises(CorruptError, match=r"has no seen\.json"):
        netweight.verify(copy)


def test_a_packed_net_out_of_its_run_is_told_to_be_judged_where_it_was_made(run, tmp_path):
    copy = shutil.copytree(run.path / "packed", tmp_path / "taken")
    with pytest.raises(SettingsError, match="taken was packed from a trained run.*RUN/packed"):
        netweight.evaluate(copy)


def test_a_file_is_no_folder_for_a_run(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ExistsError, match="file is a file"):
        trained(tmp_path / "file")


def test_a_place_below_a_file_is_one_line(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ArtifactError, match="cannot write .*file/run"):
        trained(tmp_path / "file" / "run")


def test_a_full_disk_is_said_and_the_run_goes_on_later(run, tmp_path, monkeypatch):
    whole = Path.write_bytes

    def full(path, content):
        if path.name.startswith(STATE):
            raise OSError(errno.ENOSPC, "No space left on device")
        return whole(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(ResourceError, match="free some space and run the same command to go on"):
            trained(tmp_path / "run")
    assert trained(tmp_path / "run").weights_sha256 == run.weights_sha256


def test_a_row_may_lie_beside_its_recipe(tmp_path, monkeypatch):
    home = tmp_path / "recipes"
    home.mkdir()
    (home / "mine.toml").write_text('name = "mine"\nbase = "nvfp4"\n[wgrad_g]\nformat = "mxfp4"\n')
    (home / "net.toml").write_bytes(b'\xef\xbb\xbf[net]\nuse = "vit"\n[qat]\nuse = "mine.toml"\n')
    monkeypatch.chdir(tmp_path)
    assert load_recipe(home / "net.toml").qat.qat().wgrad_g.format == "mxfp4"
    with pytest.raises(SettingsError, match=r"no such file: mine\.toml"):
        load_recipe({"net": {"use": "vit"}, "qat": {"use": "mine.toml"}})


@pytest.mark.parametrize(
    "training, words",
    [
        ({"warmup": 7}, "warmup = 7: all passes together have 6 steps"),
        ({"slices": 8, "positive": 0.5}, "all of one kind"),
    ],
)
def test_a_schedule_that_cannot_be_kept_is_refused_before_anything_is_written(training, words, tmp_path, monkeypatch):
    monkeypatch.setattr(Drawn, "positive", lambda self, number: True)
    with pytest.raises((SettingsError, DataError), match=words):
        netweight.train(
            {**RECIPE, "training": RECIPE["training"] | training}, data="phantom:12x6", out=tmp_path / "run", threads=1
        )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "parts",
    [
        {"seed": 2**63},
        {"training": {"lr": float("inf")}},
        {"training": {"clip": float("nan")}},
        {"training": {"weight_decay": float("inf")}},
        {"data": {"split": {"seed": 2**64}}},
    ],
)
def test_settings_beyond_numbers_are_refused(parts):
    with pytest.raises(SettingsError):
        load_recipe({"net": {"use": "vit"}, **parts})

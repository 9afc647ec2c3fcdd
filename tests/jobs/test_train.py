"""train: from slices to a judged run, restarts, teachers, and everything that is refused."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

import netweight
from netweight import data
from netweight.artifact import open_artifact
from netweight.errors import (
    ArtifactError,
    CorruptError,
    DataError,
    ExistsError,
    ParityError,
    SettingsError,
    UnknownName,
)
from netweight.jobs import _look, _pack, _runs
from netweight.train import STATE, load_recipe, quantize

PHANTOM = "phantom:12x6"
RECIPE = {
    "seed": 3,
    "net": {"use": "vit", "size": "500k"},
    "qat": {"use": "nvfp4-2d-rht-sr"},
    "data": {"size": 32, "split": {"shares": [0.5, 0.25, 0.25]}},
    "training": {"epochs": 3, "batch": 16, "lr": 1e-3, "optimizer": "adamw"},
}


def with_(**parts):
    return {**RECIPE, **parts}


def trained(out, recipe=None, **given):
    return netweight.train(recipe or RECIPE, data=PHANTOM, out=out, threads=1, **given)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("runs") / "run")


def test_a_run_holds_what_it_was_made_of_and_what_was_measured(run):
    training = json.loads((run.path / "training.json").read_text())
    assert training["data"]["phantom"] and training["split"]["patients"] == {"train": 6, "validation": 3, "test": 3}
    rounded = [row for row in training["layers"] if row["quantized"]]
    assert len(rounded) == 40 and {row["reason"] for row in training["layers"] if not row["quantized"]}
    claims = {claim.metric: claim for claim in run.claims()}
    assert (
        0 <= claims["auprc"].value <= 1
        and claims["auprc"].n == 3
        and claims["auprc"].subject_sha256 == run.weights_sha256
    )
    assert claims["auprc"].data["split"] == "test" and claims["auprc"].data["slices"] == 18
    assert not (run.path / STATE).exists()


def test_the_command_line_says_how_many_layers_round_and_what_the_packed_net_weighs(run, capsys):
    from netweight.cli._render import show

    show(run)
    assert "40 of 66 layers rounded, packed into" in " ".join(capsys.readouterr().out.split())


def test_the_net_is_found_again_as_it_was_judged(run):
    net, quantized = _runs.net_of(_runs.read(run.path))
    assert len(quantized.layers()) == 40 and not net.training
    slices, split = _runs.slices_of(run)
    tasks = _runs.tasks_on(slices, split.test, "test")
    from netweight.evaluate import run as judge

    again = judge([_runs.subject(run.name, run.weights_sha256, net, 1)], tasks=tasks, batch_size=7, seed=3)
    assert [claim.value for claim in again] == pytest.approx(
        [claim.value for claim in run.claims()], rel=1e-6
    )  # products of other shapes sum in another order


def test_the_packed_net_computes_what_was_trained_to_the_bit(run):
    artifact = open_artifact(run.path / "packed")
    assert run.training["packed"]["bytes"] == artifact.nbytes < (run.path / "weights.safetensors").stat().st_size / 3
    assert {(r.format, r.activations) for r in artifact.manifest.layers.values()} == {("nvfp4-2d", "nvfp4")}
    net, quantized = _runs.net_of(run)
    slices, split = _runs.slices_of(run)
    images = _runs.masked(slices, split.test, "test").images[slice(0, 18)]
    assert _pack.check(artifact, net, [images, images[:5]]) == 23 * 32 * 32
    with torch.no_grad():
        next(iter(quantized.layers().values())).weight[0, 0] += 0.5
    with pytest.raises(ParityError, match="does not compute what was trained"):
        _pack.check(artifact, net, [images])
    assert netweight.verify(artifact.path, threads=1).failures() == ()


@pytest.mark.parametrize(
    "name, reason", [("baseline", "not rounded"), ("lsq-int4", "learned"), ("nvfp4-46", ""), ("nvfp4", "")]
)
def test_a_recipe_says_why_it_has_no_packed_form(name, reason):
    found = _pack.why_not(quantize(torch.nn.Linear(32, 32), name))
    assert (reason in found) if reason else found == ""


def test_a_net_under_four_over_six_is_packed_to_the_bit(tmp_path):
    run = trained(tmp_path / "run", with_(qat={"use": "nvfp4-46-2d-rht-sr"}, training={"epochs": 1, "batch": 16}))
    artifact = open_artifact(run.path / "packed")  # so its logits were found equal to the simulation's
    rows = artifact.manifest.layers.values()
    assert {(row.format, row.activations) for row in rows} == {("nvfp4-2d", "nvfp4-four-over-six")}


def test_a_net_whose_products_of_attention_round_is_trained_judged_and_not_packed(tmp_path):
    run = trained(tmp_path / "run", with_(qat={"use": "nvfp4", "attention": True}, training={"epochs": 1, "batch": 16}))
    kinds = [row["kind"] for row in run.training["layers"] if row["quantized"]]
    assert kinds.count("MatMul") == 20 and len(kinds) == 60
    assert "products of attention" in run.training["packed"]["reason"]
    seen = _look.look(run, *_runs.net_of(run), *_runs.slices_of(run))
    assert {row["role"] for row in seen.rounding if row["layer"].endswith("scores")} >= {"forward_x", "forward_w"}


class Stop(Exception):
    pass


def stop_after(passes):
    def progress(what, done, total, note=""):
        if what == "steps" and done == passes * 3 + 1:
            raise Stop

    return progress


def test_an_interrupted_run_ends_in_the_same_bytes(run, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(Stop):
        trained(out, progress=stop_after(2))
    assert (out / STATE).is_file() and not _runs.is_run(out)
    resumed = trained(out)
    assert resumed.weights_sha256 == run.weights_sha256
    for name in ("training.json", "recipe.toml", "weights.safetensors", "packed/netweight.json"):
        assert (out / name).read_bytes() == (run.path / name).read_bytes()
    assert [c.value for c in resumed.claims()] == [c.value for c in run.claims()]


def test_a_run_that_was_killed_while_it_was_judged_is_judged_all_the_same(run, tmp_path):
    def progress(what, done, total, note=""):
        if what.startswith("mask_"):
            raise Stop

    with pytest.raises(Stop):
        trained(tmp_path / "run", progress=progress)
    assert not _runs.is_run(tmp_path / "run")
    assert [c.value for c in trained(tmp_path / "run").claims()] == [c.value for c in run.claims()]


def test_a_run_that_is_done_is_not_done_again(run):
    before = (run.path / "weights.safetensors").stat().st_mtime_ns
    assert trained(run.path).weights_sha256 == run.weights_sha256
    assert (run.path / "weights.safetensors").stat().st_mtime_ns == before


def test_recipes_of_one_seed_start_from_the_same_weights():
    one, _ = _runs.built(_runs.load_recipe(RECIPE), 32)
    other, _ = _runs.built(_runs.load_recipe(with_(qat={"use": "baseline"})), 32)
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def test_another_run_s_folder_is_left_alone(run, tmp_path):
    with pytest.raises(ExistsError, match="another finished run"):
        trained(run.path, with_(seed=4))
    out = tmp_path / "run"
    with pytest.raises(Stop):
        trained(out, progress=stop_after(1))
    with pytest.raises(ExistsError, match=r"beginning of another run \(other recipe\)"):
        trained(out, with_(seed=4))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("x")
    with pytest.raises(ExistsError, match="not a run"):
        trained(tmp_path / "full")


@pytest.mark.parametrize("device, message", [("gpu", '"cpu", "cuda", or "cuda:1"'), ("cuda:99", "leave it out")])
def test_a_device_that_is_not_there_is_refused_before_anything_is_made(tmp_path, device, message):
    with pytest.raises(SettingsError, match=message):
        trained(tmp_path / "run", device=device)
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
def test_a_gpu_trains_a_net_that_is_packed_to_the_bit(tmp_path):
    run = trained(tmp_path / "run", device="cuda")
    assert run.training["packed"]["bytes"] > 0 and run.training["environment"]["device"] != "cpu"


def test_a_row_of_one_s_own_is_kept_with_the_run_and_told_from_what_the_file_says_later(tmp_path):
    mine = tmp_path / "mine.toml"
    mine.write_text('name = "mine"\nbase = "nvfp4"\n[wgrad_g]\nformat = "mxfp4"\n')
    recipe = with_(qat={"use": str(mine)}, training={**RECIPE["training"], "epochs": 1})
    run = trained(tmp_path / "run", recipe)
    before = _runs.read(run.path)
    mine.write_text('name = "mine"\nbase = "nvfp4-sr"\n')
    with pytest.raises(ExistsError, match="other recipe"):
        trained(tmp_path / "run", recipe)
    mine.unlink()
    again = _runs.read(run.path)
    assert again.recipe == before.recipe and again.recipe.qat.qat().wgrad_g.format == "mxfp4"
    assert _runs.net_of(again)[1].recipe.operands() == again.recipe.qat.qat().operands()
    with pytest.raises(SettingsError, match="no such file"):
        load_recipe(recipe)
    with pytest.raises(SettingsError, match="leave one of them out"):
        load_recipe(with_(qat={"use": "nvfp4", "row": {"name": "other"}}))
    with pytest.raises(SettingsError, match="did you mean 'wgrad_g'"):
        load_recipe(with_(qat={"row": {"name": "other", "wgrad_gg": {}}}))


def test_a_finished_run_is_not_given_back_for_another_teacher(run, tmp_path):
    with pytest.raises(ExistsError, match="other teacher"):
        trained(run.path, teacher=trained(tmp_path / "teacher", with_(qat={"use": "baseline"})).path)


def test_equal_images_of_different_patients_are_listed(tmp_path, capsys):
    import numpy as np

    from netweight.cli._render import show
    from netweight.data import segmentation

    phantom = segmentation(PHANTOM, size=32)
    images = np.array(phantom.images)
    parts = _runs.divided(phantom, load_recipe(RECIPE).data.split)
    here, there = parts.train[0], parts.test[0]
    folder = tmp_path / "data"
    for k, name in enumerate(phantom.names):
        place = folder / phantom.patients[k]
        place.mkdir(parents=True, exist_ok=True)
        taken = images[here] if k == there else images[k]
        from PIL import Image

        Image.fromarray(taken.squeeze()).save(place / f"{k}.png")
        Image.fromarray(np.asarray(phantom.masks[k], np.uint8) * 255).save(place / f"{k}_mask.png")
        assert name
    recipe = with_(training={**RECIPE["training"], "epochs": 1})
    run = netweight.train(recipe, data=str(folder), out=tmp_path / "run", threads=1)
    (pair,) = run.training["split"]["equal"]
    assert {int(name.rsplit("/", 1)[-1].split(".")[0].split("_")[-1]) for name in pair} == {here, there}
    show(run)
    assert "pairs of equal images in different parts: 1" in " ".join(capsys.readouterr().out.split())


def test_a_student_learns_from_a_teacher_of_the_same_split(run, tmp_path):
    teacher = trained(tmp_path / "teacher", with_(qat={"use": "baseline"}))
    student = trained(tmp_path / "student", teacher=teacher.path)
    assert student.training["teacher"] == teacher.weights_sha256
    assert student.weights_sha256 != run.weights_sha256
    split = {"size": 32, "split": {"shares": [0.5, 0.25, 0.25], "seed": 1}}
    with pytest.raises(DataError, match="may have seen the student's test patients"):
        trained(tmp_path / "other", with_(data=split), teacher=teacher.path)


def test_damaged_runs_are_named(run, tmp_path):
    with pytest.raises(ArtifactError, match="not a finished run"):
        _runs.read(tmp_path)
    copy = shutil.copytree(run.path, tmp_path / "copy")
    weights = bytearray((copy / "weights.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "weights.safetensors").write_bytes(weights)
    with pytest.raises(CorruptError, match="not what was trained"):
        _runs.read(copy)


def test_a_run_with_patches_of_its_own_is_packed_and_read_back_with_them(tmp_path):
    recipe = with_(net={"use": "vit", "patch": 8}, training=RECIPE["training"] | {"epochs": 1})
    run = trained(tmp_path / "run", recipe)
    assert run.training["packed"]["bytes"] > 0  # so its logits were found equal to the simulation's
    net, _ = _runs.net_of(_runs.read(run.path))
    assert net.patches.conv.kernel_size == (8, 8) and net.positions.shape[1] == 1 + (32 // 8) ** 2
    packed = open_artifact(run.path / "packed").net()
    assert packed is not None and packed.patches.conv.kernel_size == (8, 8)


@pytest.mark.parametrize(
    "parts, error, words",
    [
        ({"net": {"use": "vitt"}}, UnknownName, "did you mean 'vit'"),
        ({"net": {"use": "vit", "size": "5m"}}, SettingsError, "5m"),
        ({"net": {"use": "cnn", "patch": 8}}, SettingsError, "cnn takes no patch"),
        ({"qat": {"use": "nvfp5"}}, UnknownName, "did you mean 'nvfp4'"),
        ({"qat": {"use": "nvfp4", "skip": ["nothing.*"]}}, SettingsError, "fits no layer"),
        ({"training": {"epocs": 3}}, SettingsError, "did you mean 'epochs'"),
        ({"data": {"split": {"use": "folds", "fold": 7}}}, SettingsError, "numbered 0 to 4"),
        (
            {"data": {"size": 32, "split": {"use": "leave-one-site-out", "site": "Mars"}}},
            SettingsError,
            "from A, B, C$",
        ),
        ({"step": []}, SettingsError, "netweight compress"),
        ({"data": {"split": {"shares": [0.5, 0.5, 0.5]}}}, DataError, "sum 1"),
    ],
)
def test_what_is_wrong_with_a_recipe_is_said_before_anything_is_written(parts, error, words, tmp_path):
    with pytest.raises(error, match=words):
        trained(tmp_path / "run", with_(**parts))
    assert not (tmp_path / "run").exists()


def test_slices_that_name_no_site_are_not_said_to_be_from_one():
    slices = data.phantom(data.PhantomSettings(patients=4, slices=1), size=16)
    nowhere = data.from_arrays(slices.images, slices.masks, slices.patients)
    settings = load_recipe(with_(data={"split": {"use": "leave-one-site-out", "site": "x"}})).data.split
    with pytest.raises(SettingsError, match="site = 'x': these slices name no site; use holdout or folds"):
        _runs.divided(nowhere, settings)


def test_the_command_line_trains_and_shows_what_was_measured(tmp_path, capsys):
    from netweight.cli import main

    recipe = tmp_path / "r.toml"
    recipe.write_text(
        'seed = 1\n[net]\nuse = "vit"\n[data]\nsize = 32\n[data.split]\nshares = [0.5, 0.25, 0.25]\n[training]\nepochs = 1\nslices = 16\n'
    )
    assert main(["train", str(recipe), "--data", PHANTOM, "--out", str(tmp_path / "run"), "--threads", "1"]) == 0
    shown = capsys.readouterr().out
    assert "run: 1 pass, the best 1 (all passes done)" in " ".join(shown.split())
    assert "auprc on phantom" in shown and "vit 500k, baseline" in shown
    assert "not packed: its weights are not rounded" in " ".join(shown.split())
    assert main(["train", str(recipe), "--data", "nowhere", "--out", str(tmp_path / "other")]) == 2
    assert "no segmentation data named 'nowhere'" in capsys.readouterr().err

"""report for training runs: predictions made again, paired and drawn; nothing of the run changes; what cannot be is said."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import netweight
from netweight.claim import read_claims, write_claims
from netweight.cli import main
from netweight.errors import ArtifactError, CorruptError, EvidenceError, SettingsError
from netweight.evaluate import _statistics, task
from netweight.evidence import _overlay, _run_tested
from netweight.jobs import _look, _run_evidence, _runs
from netweight.progress import silent

RECIPE = {
    "seed": 3,
    "net": {"use": "vit"},
    "data": {"size": 32, "split": {"shares": [0.5, 0.25, 0.25]}},
    "training": {"epochs": 1, "batch": 16, "lr": 2e-3, "optimizer": "adamw"},
}


def trained(out: Path, qat: str, **parts):
    recipe = {**RECIPE, "name": f"vit {qat}", "qat": {"use": qat}, **parts}
    return netweight.train(recipe, data="phantom:12x6", out=out, threads=1)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    room = tmp_path_factory.mktemp("runs")
    return trained(room / "base", "baseline"), trained(room / "fp4", "nvfp4-2d-rht-sr")


@pytest.fixture(scope="module")
def found(runs):
    return _run_evidence.inputs_of(runs, silent)


def files(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file()
    }


@pytest.fixture
def copied(runs, tmp_path: Path):
    """A copy of the first run, and how to change its record."""
    folder = Path(shutil.copytree(runs[0].path, tmp_path / "copy"))

    def change(**parts) -> Path:
        table = json.loads((folder / "training.json").read_text())
        for key, value in parts.items():
            table[key] = {**table.get(key, {}), **value} if isinstance(value, dict) else value
        (folder / "training.json").write_text(
            json.dumps({key: value for key, value in table.items() if value is not ...})
        )
        return folder

    return change


def test_a_page_is_written_beside_the_first_run_and_nothing_else_changes(runs, found):
    panels = sum(len(picture.panels) for gallery in found[1] for picture in gallery.pictures)
    before = [files(run.path) for run in runs]
    path = netweight.report(list(runs))
    assert path == runs[0].path / "report.html"
    text = path.read_text()
    assert text.count("data:image/png;base64,") == panels >= 2, "which slices say most depends on what was learnt"
    assert "Phantom data" in text and "to the bit, on" in text
    path.unlink()
    assert [files(run.path) for run in runs] == before
    assert netweight.report([str(run.path) for run in runs], out=runs[1].path.parent / "x.html").read_text() == text


def test_runs_of_one_split_are_paired_with_the_first(runs, found):
    (one, other), galleries = found
    assert len(galleries) == 1 and galleries[0].headings == ("vit baseline", "vit nvfp4-2d-rht-sr")
    ours, theirs = ({claim.metric: claim for claim in run.claims} for run in (other, one))
    stored = [{claim.metric: claim for claim in run.claims()} for run in runs]
    assert not any(claim.comparison for claim in theirs.values())
    for metric, claim in ours.items():
        if metric in stored[1] and claim.value is not None and theirs[metric].value is not None:
            assert claim.value == stored[1][metric].value, "the claim is the one that was kept"
            assert claim.comparison is not None and claim.comparison.reference == "vit baseline"
            assert claim.comparison.difference == pytest.approx(claim.value - theirs[metric].value, abs=1e-6)
    assert ours["auprc_ratio"].value == pytest.approx(ours["auprc"].value / theirs["auprc"].value, rel=1e-6)
    assert other.recomputed == pytest.approx(ours["auprc"].value, abs=1e-6)


def test_what_is_drawn_is_what_is_claimed(runs):
    run = runs[1]
    slices, split = _runs.slices_of(run)
    p = _run_evidence.predicted(_runs.net_of(run)[0], slices, split.test)
    marks = [_overlay.marked(one, slices.masks[n]) for one, n in zip(p, split.test, strict=True)]
    claims = {claim.metric: claim.value for claim in run.claims()}
    lesions = sum(m.found + m.missed for m in marks)
    assert claims["lesion_recall"] == pytest.approx(sum(m.found for m in marks) / lesions)
    assert claims["false_lesions_per_slice"] == pytest.approx(sum(m.false for m in marks) / len(marks))
    defaults = task("mask_lesions", _runs.masked(slices, split.test, "test")).settings
    assert (defaults.threshold, defaults.found) == (_overlay.THRESHOLD, _overlay.FOUND)


def test_patients_are_few_on_the_page_where_the_evaluation_warns_of_them():
    assert _run_tested.TRUSTED == _statistics.TRUSTED


def test_patients_come_from_the_slices_themselves(found):
    patients = found[0][0].patients
    assert {part: len(names) for part, names in patients.items()} == {"train": 6, "validation": 3, "test": 3}
    assert len({name for names in patients.values() for name in names}) == 12


def test_every_operand_is_looked_at_and_the_same_is_seen_again(runs, found):
    looked = found[0][1].looked
    assert {row["role"] for row in looked.rounding} == {"forward_x", "forward_w", "dgrad_g", "wgrad_g", "wgrad_x"}
    assert len({row["layer"] for row in looked.rounding}) == 40 and looked.slices == 16
    assert all(0 <= row["flushed"] <= 1 and 0 < row["error"] < 1 for row in looked.rounding)
    assert len(looked.attention) == 10 and looked.tokens == 5 and all(1 <= v <= 5 for v in looked.attention.values())
    assert 0 <= looked.oscillating["share"] < 0.5
    slices, split = _runs.slices_of(runs[1])
    net, quantized = _runs.net_of(runs[1])
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    assert _look.look(runs[1], net, quantized, slices, split) == looked
    assert all((before[name] == tensor).all() for name, tensor in net.state_dict().items()) and not net.training
    base = found[0][0].looked
    assert base.rounding == () and base.oscillating == {} and len(base.attention) == 10


@pytest.mark.parametrize(
    ("schedule", "ends", "rate"),
    [("cosine", [3e-4, 1e-4, 0.0], 1e-4), ("cosine", [0.0], 2e-3), ("plateau", [2e-3, 2e-3, 1e-3], 1e-3), ("plateau", [], 2e-3)],
)  # fmt: skip
def test_weights_are_watched_at_a_rate_of_the_last_pass_that_is_not_0(schedule, ends, rate, runs, monkeypatch):
    rates, kept = [], _look.optimizer
    monkeypatch.setattr(_look, "optimizer", lambda *given, lr: rates.append(lr) or kept(*given, lr=lr))
    run = runs[1]
    settings = run.recipe.training.model_copy(update={"schedule": schedule})
    history = {"rows": [{"rate": value} for value in ends]}
    run = replace(run, recipe=replace(run.recipe, training=settings), training={**run.training, "history": history})
    _look.look(run, *_runs.net_of(runs[1]), *_runs.slices_of(runs[1]))
    assert rates == [rate]


def test_slices_are_spread_evenly():
    assert _look.spread(tuple(range(100, 200)), 4) == [100, 133, 166, 199]
    assert _look.spread((5, 9), 16) == [5, 9]


def test_runs_of_other_test_slices_are_not_compared(runs, tmp_path: Path):
    other = trained(
        tmp_path / "other", "baseline", data={"size": 32, "split": {"shares": [0.5, 0.25, 0.25], "seed": 1}}
    )
    (one, two), galleries = _run_evidence.inputs_of([runs[0], other], silent)
    assert len(galleries) == 2 and not any(claim.comparison for claim in two.claims)
    text = netweight.report([runs[0], other], out=tmp_path / "x.html").read_text()
    assert text.count('aria-label="Split by patient"') == 4, "a banner and a table for each split"
    assert one.title == two.title and "vit baseline (base)" in text


def test_each_run_is_paired_with_the_first_of_those_that_share_its_test_slices(runs, tmp_path: Path):
    split = {"shares": [0.5, 0.25, 0.25], "seed": 1}
    other = trained(tmp_path / "other", "baseline", data={"size": 32, "split": split})
    made, _ = _run_evidence.inputs_of([other, *runs], silent)
    assert [run.reference for run in made] == ["", "", "vit baseline (base)"]
    assert made[0].test_sha256 != made[1].test_sha256 == made[2].test_sha256
    assert all(len(run.on_own_test()) == len(run.claims) for run in made)
    text = netweight.report([other, *runs], out=tmp_path / "x.html").read_text()
    assert text.count("the reference itself") == 1, "the ratio to itself"


def test_claims_about_other_slices_are_neither_paired_nor_held_against_predictions(runs, copied):
    folder = copied()
    own = read_claims(folder / "claims.jsonl")
    data = {"source": "other", "split": "all", "sha256": "9" * 64}
    other = [replace(claim, data=data, value=claim.value and claim.value / 2) for claim in own]
    kept = replace(own[0], metric="auprc_ratio", value=7.0)
    write_claims(folder / "claims.jsonl", [*other, *own, kept])
    made, _ = _run_evidence.inputs_of([runs[1], folder], silent)
    ours = [claim for claim in made[1].claims if claim.data["sha256"] != "9" * 64]
    assert made[1].on_own_test() == ours and {claim.metric for claim in ours} == {claim.metric for claim in own} | {
        "auprc_ratio"
    }
    assert [claim.value for claim in ours if claim.metric == "auprc_ratio"] != [7.0], "it was beside another reference"
    assert [replace(c, subject="") for c in made[1].claims if c not in ours] == [replace(c, subject="") for c in other]
    assert made[1].recomputed == pytest.approx(next(c.value for c in own if c.metric == "auprc"), abs=1e-6)
    (alone,), _ = _run_evidence.inputs_of([folder], silent)
    assert [claim.value for claim in alone.claims if claim.metric == "auprc_ratio"] == [7.0]


def test_without_its_data_a_page_has_no_pictures_and_says_so(copied, tmp_path: Path):
    text = netweight.report(copied(data={"given": "nowhere"}), out=tmp_path / "x.html").read_text()
    assert "no segmentation data named" in text and "There are no pictures" in text and "<img" not in text
    assert "By the record no patient is in two parts" in text and "AUPRC" in text
    text = netweight.report(copied(data={"given": "phantom:12x6,contrast=0.4"}), out=tmp_path / "x.html").read_text()
    assert "is not what" in text and "<img" not in text


def test_an_unfinished_run_is_refused(tmp_path: Path):
    (tmp_path / "begun.json").write_text("{}")
    with pytest.raises(ArtifactError, match="holds a run that is not finished"):
        netweight.report(tmp_path)


def test_a_damaged_run_is_refused(copied, runs):
    folder = copied(history=...)
    with pytest.raises(CorruptError, match="damaged: it has no 'history'"):
        netweight.report(folder)
    copied(history=runs[0].training["history"], weights_sha256=...)
    with pytest.raises(CorruptError, match="damaged: it has no 'weights_sha256'"):
        netweight.report(folder)
    (folder / "training.json").write_text("{")
    with pytest.raises(CorruptError, match="training.json is damaged"):
        netweight.report(folder)
    assert not (folder / "report.html").exists()


def test_a_run_without_claims_of_its_own_is_refused(copied):
    folder = copied()
    claims = read_claims(folder / "claims.jsonl")
    write_claims(folder / "claims.jsonl", [netweight.Claim(**{**vars(c), "subject_sha256": "0" * 64}) for c in claims])
    with pytest.raises(EvidenceError, match="about other weights"):
        netweight.report(folder)
    (folder / "claims.jsonl").unlink()
    with pytest.raises(EvidenceError, match="has no claims"):
        netweight.report(folder)


def test_runs_in_folders_of_one_name_are_told_apart_before_anything_is_computed(runs, tmp_path: Path, monkeypatch):
    for name, source in zip("ab", runs, strict=True):
        shutil.copytree(source.path, tmp_path / name / "run")
    path = netweight.report([tmp_path / "a" / "run", tmp_path / "b" / "run"], out=tmp_path / "page.html")
    assert path.is_file()
    made, _ = _run_evidence.inputs_of([tmp_path / "a" / "run", tmp_path / "b" / "run"], silent)
    assert [run.name for run in made] == ["a/run", "b/run"]
    monkeypatch.setattr(_run_evidence, "_found", None)
    with pytest.raises(EvidenceError, match="named twice"):
        _run_evidence.inputs_of([tmp_path / "a" / "run", tmp_path / "a" / "run"], silent)


def test_a_run_without_a_name_is_called_by_what_it_is(copied, tmp_path: Path):
    folder = copied()
    text = (folder / "recipe.toml").read_text()
    (folder / "recipe.toml").write_text(text.replace('name = "vit baseline"', 'name = ""'))
    (made,), _ = _run_evidence.inputs_of([folder], silent)
    assert made.title == "vit 500k baseline" and _runs.read(folder).recipe.name == ""


def test_runs_and_artifacts_are_not_mixed(runs):
    with pytest.raises(SettingsError, match="base is a training run and .*packed is not"):
        netweight.report([runs[0], runs[1].path / "packed"])
    with pytest.raises(SettingsError, match="at least one artifact folder or training run"):
        netweight.report([])


def test_the_command_line_reports_on_runs(runs, tmp_path: Path, capsys):
    paths = [str(run.path) for run in runs]
    assert main(["report", paths[1], "--out", str(tmp_path / "x.html")]) == 0
    assert "not compared" not in (tmp_path / "x.html").read_text()
    assert main(["report", paths[0], f"{paths[1]}/packed"]) == 2
    assert "one page shows runs or artifacts" in capsys.readouterr().err
    assert main(["report", "--help"]) == 0
    assert "folders of training runs; not both" in " ".join(capsys.readouterr().out.split())


def test_predictions_are_probabilities_of_every_slice(runs):
    slices, split = _runs.slices_of(runs[0])
    p = _run_evidence.predicted(_runs.net_of(runs[0])[0], slices, split.test)
    assert p.shape == (len(split.test), 32, 32) and p.dtype == np.float32 and 0 <= p.min() <= p.max() <= 1

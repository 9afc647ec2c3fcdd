"""evaluate and verify of trained runs: the same test patients again, pairs, other slices, and nobody who trained the net."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

import netweight
from jobs.conftest import TRAINED
from netweight import data
from netweight.claim import read_claims, write_claims
from netweight.cli import main
from netweight.errors import CorruptError, DataError, EvidenceError, SettingsError
from netweight.jobs import _runs

MEASURED = {"threads": 1}


@pytest.fixture
def run(vit_run, tmp_path) -> Path:
    return Path(shutil.copytree(vit_run, tmp_path / "vit"))


@pytest.fixture
def baseline(baseline_run, tmp_path) -> Path:
    return Path(shutil.copytree(baseline_run, tmp_path / "baseline"))


def patients(folder: Path, slices, chosen, *, rename="") -> Path:
    """Some patients of a set as a folder of picture files."""
    for k in chosen:
        home = folder / f"{rename}{slices.patients[k]}"
        home.mkdir(parents=True, exist_ok=True)
        Image.fromarray(slices.images[k]).save(home / f"s_{k}.png")
        Image.fromarray(slices.masks[k]).save(home / f"s_{k}_mask.png")
    return folder


def values(claims, name=None):
    return {claim.metric: claim.value for claim in claims if name in (None, claim.subject)}


def test_a_run_judged_again_is_worth_what_it_was(run):
    before = _runs.read(run).claims()
    again = netweight.evaluate(run, batch_size=64, **MEASURED)
    assert [(c.metric, c.value, c.low, c.high, c.data) for c in again] == [
        (c.metric, c.value, c.low, c.high, c.data) for c in before
    ]
    assert read_claims(run / "claims.jsonl") == again  # in the place of the first


def test_two_runs_are_paired_on_the_same_patients(run, baseline):
    claims = netweight.evaluate([str(run)], against=baseline, **MEASURED)
    one, other = values(claims, "vit"), values(claims, "baseline")
    auprc = next(c for c in claims if (c.metric, c.subject) == ("auprc", "vit"))
    assert auprc.comparison.difference == pytest.approx(one["auprc"] - other["auprc"])
    assert auprc.comparison.reference == "baseline"
    assert one["auprc_ratio"] == pytest.approx(one["auprc"] / other["auprc"]) and "auprc_ratio" not in other
    kept = _runs.read(run).claims()
    assert {claim.subject for claim in kept} == {"vit"} and values(kept) == one
    assert values(_runs.read(baseline).claims()) == pytest.approx(other)  # as trained, not touched


def test_claims_say_of_a_net_that_its_training_diverged(run, baseline):
    record = json.loads((run / "training.json").read_text())
    record["history"] |= {"diverged": True, "ended": "loss is not finite in step 3"}
    (run / "training.json").write_text(json.dumps(record))
    said = "training diverged: loss is not finite in step 3"
    for source, name in ((run, "vit"), (run / "packed", "vit/packed")):
        claims = netweight.evaluate(source, against=baseline, **MEASURED)
        assert {c.subject for c in claims if said in c.note} == {name} != {c.subject for c in claims}
        assert all(said in c.note for c in claims if c.subject == name)
    assert all(said in c.note for c in netweight.evaluate(baseline, against=run, **MEASURED) if c.subject == "vit")


def test_the_packed_net_is_worth_what_was_simulated(run):
    claims = netweight.evaluate(run / "packed", **MEASURED)
    assert values(claims, "vit") == {k: v for k, v in values(claims, "vit/packed").items() if k != "auprc_ratio"}
    assert values(claims, "vit/packed")["auprc_ratio"] == 1
    kept = read_claims(run / "packed" / "claims.jsonl")
    assert {claim.subject for claim in kept} == {"vit/packed"}
    assert {claim.comparison.difference for claim in kept if claim.comparison} == {0}


def test_other_slices_are_all_tested_on_and_kept_beside_the_run_s_own(run, tmp_path):
    other = data.segmentation("phantom:3x4", size=32, seed=9)
    patients(tmp_path / "other", other, range(len(other)), rename="new-")
    before = _runs.read(run).claims()
    claims = netweight.evaluate(run, data=tmp_path / "other", **MEASURED)
    assert claims[0].data["split"] == "all" and claims[0].data["slices"] == 12 and claims[0].data["source"] == "other"
    assert _runs.read(run).claims() == before + claims


def test_the_training_set_by_another_path_is_tested_on_its_test_patients_alone(run, tmp_path, monkeypatch):
    slices, split = _runs.slices_of(_runs.read(run))
    claims = netweight.evaluate(run, data="phantom:12x6,contrast=0.25", **MEASURED)
    assert claims[0].data["split"] == "test" and claims[0].data["slices"] == len(split.test) < len(slices)


def test_nobody_who_trained_or_chose_is_tested_on(run, tmp_path):
    slices, split = _runs.slices_of(_runs.read(run))
    by_name = patients(tmp_path / "named", slices, [*split.test, split.validation[0]])
    with pytest.raises(DataError, match="1 patient of named trained vit or chose its weights"):
        netweight.evaluate(run, data=by_name)
    by_picture = patients(tmp_path / "pictures", slices, [*split.test, *split.train], rename="other-")
    with pytest.raises(DataError, match=r"6 patients of pictures trained vit .*equal pictures"):
        netweight.evaluate(run, data=by_picture)
    head = "A phantom's head goes by its seed and number: give another seed, as phantom:8x4,seed=1, or leave data away"
    for phantoms in ("phantom:24x6", "phantom:12x6,contrast=0.5"):
        with pytest.raises(DataError, match=f"9 patients of phantom trained .* {head}"):
            netweight.evaluate(run, data=phantoms)
    others = netweight.evaluate(run, data="phantom:4x2,seed=1", out=tmp_path / "others.jsonl", **MEASURED)
    assert others[0].data["slices"] == 8 and others[0].data["split"] == "all"
    only_test = patients(tmp_path / "test", slices, split.test)
    assert netweight.evaluate(run, data=only_test, **MEASURED)[0].data["slices"] == len(split.test)


def test_slices_that_cannot_be_compared_with_the_training_are_refused(run, tmp_path):
    text = (run / "training.json").read_text()
    other = data.segmentation("phantom:2x2", size=32, seed=9)
    patients(tmp_path / "other", other, range(len(other)), rename="new-")
    (run / "seen.json").unlink()
    (run / "training.json").write_text(text.replace('"given": "phantom:12x6"', '"given": "/gone/away"'))
    with pytest.raises(DataError, match="trained on /gone/away, which is not at hand"):
        netweight.evaluate(run, data=tmp_path / "other")
    (run / "training.json").write_text(text.replace(_runs.read(run).training["split"]["sha256"], "0" * 64))
    with pytest.raises(CorruptError, match="no longer divided as when"):
        netweight.evaluate(run)


def test_without_the_training_data_a_run_still_knows_whom_it_has_seen(run, tmp_path):
    slices, split = _runs.slices_of(_runs.read(run))
    text = (run / "training.json").read_text()
    (run / "training.json").write_text(text.replace('"given": "phantom:12x6"', '"given": "/gone/away"'))
    other = data.segmentation("phantom:3x4", size=32, seed=9)
    patients(tmp_path / "other", other, range(len(other)), rename="new-")
    claims = netweight.evaluate(run, data=tmp_path / "other", **MEASURED)
    assert all("0 of these slices and of their patients trained the net" in claim.note for claim in claims)
    both = patients(tmp_path / "both", slices, split.train[:2], rename="other-")
    patients(both, slices, split.test, rename="other-")
    with pytest.raises(
        DataError, match=rf"1 patient of both .*2 of the {2 + len(split.test)} slices have equal pictures"
    ):
        netweight.evaluate(run, data=both)
    with pytest.raises(DataError, match="1 patient of named trained vit .*0 of the 1 slices have equal pictures"):
        kept = json.loads((run / "seen.json").read_text())["patients"]["validation"][0]
        named = data.from_arrays(other.images[:1], other.masks[:1], [kept])
        netweight.evaluate(run, data=patients(tmp_path / "named", named, [0]))
    (run / "seen.json").write_text((run / "seen.json").read_text().replace(kept, "nobody"))
    with pytest.raises(CorruptError, match=r"seen.json is not what vit kept"):
        netweight.evaluate(run, data=tmp_path / "other")


def test_a_run_keeps_whom_it_has_seen_and_no_picture_of_its_test(run):
    slices, split = _runs.slices_of(_runs.read(run))
    kept = json.loads((run / "seen.json").read_text())
    for part in ("train", "validation", "test"):
        assert kept["patients"][part] == sorted({slices.patients[k] for k in getattr(split, part)})
    wanted = {hashlib.sha256(slices.images[k].tobytes()).hexdigest()[:16] for k in (*split.train, *split.validation)}
    assert kept["pictures"] == sorted(wanted)


def test_what_cannot_be_paired_is_refused(run, workplace, tmp_path):
    split = {"size": 32, "split": {"shares": [0.5, 0.25, 0.25], "seed": 1}}
    short = {"training": TRAINED["training"] | {"epochs": 1}}
    other = netweight.train(TRAINED | short | {"data": split}, data="phantom:12x6", out=tmp_path / "split", threads=1)
    with pytest.raises(DataError, match="split and vit are tested on different slices"):
        netweight.evaluate(run, against=other.path)
    with pytest.raises(SettingsError, match="runs are judged among runs"):
        netweight.evaluate([run, "int4"])
    with pytest.raises(SettingsError, match="slices are for trained runs"):
        netweight.evaluate("int4", data="phantom")
    with pytest.raises(SettingsError, match="share a name"):
        netweight.evaluate([run, run])


def test_runs_in_folders_of_one_name_are_told_apart_by_their_paths(run, baseline, tmp_path):
    """As in the cells of a study."""
    for name, source in (("a", run), ("b", baseline)):
        shutil.copytree(source, tmp_path / name / "run")
    claims = netweight.evaluate([tmp_path / "a/run", tmp_path / "a/run/packed"], against=tmp_path / "b/run", **MEASURED)
    assert {claim.subject for claim in claims} == {"a/run", "a/run/packed", "b/run"}
    ratios = [claim for claim in claims if claim.metric == "auprc_ratio"]
    assert {claim.subject for claim in ratios} == {"a/run", "a/run/packed"}
    (alone,) = (claim for claim in netweight.evaluate(run, **MEASURED) if claim.metric == "auprc")
    kept = [claim for claim in read_claims(tmp_path / "a/run/claims.jsonl") if claim.metric == "auprc"]
    assert [(claim.subject, claim.value) for claim in kept] == [("a/run", alone.value)]


def test_claims_of_a_run_are_measured_again(run, baseline, tmp_path):
    other = data.segmentation("phantom:3x4", size=32, seed=9)
    place = patients(tmp_path / "other", other, range(len(other)), rename="new-")
    netweight.evaluate(run, against=baseline, **MEASURED)
    netweight.evaluate(run, data=place, **MEASURED)
    netweight.evaluate(run / "packed", **MEASURED)
    assert {c.status for c in netweight.verify(run / "packed", recompute=True, threads=1).checks} == {"holds"}
    alone = netweight.verify(run, recompute=True, threads=1)
    assert alone.failures() == () and [c.what for c in alone.checks if c.status == "not checked"] == [
        "auprc_ratio of vit on phantom/test"
    ]
    found = netweight.verify(run, recompute=True, against=baseline, threads=1)
    assert {check.status for check in found.checks} == {"holds"} and len(found.checks) > 30
    with pytest.raises(EvidenceError, match="no claim compares with"):
        netweight.verify(run, recompute=True, against=run / "packed")
    claims = read_claims(run / "claims.jsonl")
    better = [c if c.metric != "auprc" else type(c)(**{**vars(c), "value": c.value + 0.1}) for c in claims]
    write_claims(run / "claims.jsonl", better)
    with pytest.raises(EvidenceError, match="2 claims do not hold: auprc of vit"):
        netweight.verify(run, claim="auprc", threads=1)


def test_the_command_line(run, capsys):
    words = ["evaluate", str(run), "--data", "phantom:12x6", "--threads", "1"]
    assert main(words) == 0 and "auprc on phantom/test" in capsys.readouterr().out
    assert read_claims(run / "claims.jsonl")[0].command.endswith("--data phantom:12x6 --batch-size 8 --threads 1")
    assert main(["verify", str(run), "--claim", "auprc", "--threads", "1"]) == 0
    assert main(["evaluate", str(run), "--data", "phantom:24x6"]) == 2
    assert "leave data away" in capsys.readouterr().err

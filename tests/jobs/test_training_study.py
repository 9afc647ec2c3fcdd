"""A study of training: cells in processes, and findings from tables whose answer is known."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

import netweight
from netweight.errors import ExistsError, SettingsError
from netweight.jobs._training_findings import concluded, of_rows
from netweight.study import OF_A_RUN, load

GRID = {
    "name": "tiny",
    "job": "train",
    "data": "phantom:12x6",
    "seeds": [1],
    "recipe": {
        "net": {"use": "vit"},
        "data": {"size": 32, "split": {"shares": [0.5, 0.25, 0.25]}},
        "training": {"epochs": 1, "batch": 16, "slices": 16},
    },
    "axes": {"recipe": {"baseline": {"qat": {"use": "baseline"}}, "nvfp4": {"qat": {"use": "nvfp4"}}}},
    "measure": [{"name": "AUPRC", "metric": "auprc"}],
    "compare": {"axis": "recipe", "baseline": "baseline"},
}


def test_cells_are_trained_and_kept(tmp_path):
    found = netweight.study(GRID, out=tmp_path, workers=2)
    assert [("failure" in row, row["recipe"]) for row in found.cells] == [(False, "baseline"), (False, "nvfp4")]
    assert found.phantom and found.comparisons[0].n == 1
    assert set(found.cells[0]) == {"recipe", "seed", "key", "AUPRC", *OF_A_RUN["train"]}
    first = (tmp_path / "study.json").read_bytes()
    runs = sorted(tmp_path.glob("cells/*/run/training.json"))
    stamps = [path.stat().st_mtime_ns for path in runs]
    assert len(runs) == 2
    again = netweight.study(GRID, out=tmp_path, workers=1)
    assert again == found and (tmp_path / "study.json").read_bytes() == first
    assert [path.stat().st_mtime_ns for path in runs] == stamps
    a, b = (json.loads(path.read_text()) for path in runs)
    assert a["split"]["sha256"] == b["split"]["sha256"]


def test_pictures_of_many_sizes_come_to_the_sizes_that_recipes_ask_for(tmp_path):
    random = np.random.default_rng(1)
    for number in range(8):
        folder = tmp_path / "pictures" / f"patient-{number}"
        folder.mkdir(parents=True)
        pixels = random.integers(0, 256, (40 + number, 50, 3), dtype=np.uint8)
        for name, array in (("1.png", pixels), ("1_mask.png", (pixels[..., 0] > 200).astype(np.uint8) * 255)):
            Image.fromarray(array).save(folder / name)
    recipe = {**GRID["recipe"], "data": {"split": GRID["recipe"]["data"]["split"]}}
    sizes = {str(size): {"data": {"size": size}} for size in (32, 48)}
    grid = {**GRID, "recipe": recipe, "data": str(tmp_path / "pictures"), "axes": {**GRID["axes"], "size": sizes}}
    found = netweight.study(grid, out=tmp_path / "out", workers=2)
    assert ["failure" in row for row in found.cells] == 4 * [False]
    kept = json.loads((tmp_path / "out" / "study.json").read_text())["slices"]
    assert [(one["size"], one["slices"]) for one in kept] == [([32, 32], 8), ([48, 48], 8)]
    assert kept[0]["sha256"] != kept[1]["sha256"]
    alone = netweight.study({**grid, "axes": {**grid["axes"], "size": {"32": sizes["32"]}}}, out=tmp_path / "out")
    assert {row["key"] for row in alone.cells} < {row["key"] for row in found.cells}  # what was done stays done


def wide(**compare):
    """Two nets, two recipes besides the baseline, two folds, three seeds."""
    grid = {**GRID, "seeds": [1, 2, 3]}
    grid["axes"] = {
        "net": {"cnn": {"net": {"use": "cnn"}}, "vit": {}},
        "fold": {"a": {}, "b": {"data": {"split": {"seed": 2}}}},
        "recipe": {**GRID["axes"]["recipe"], "sr": {"qat": {"use": "nvfp4-sr"}}},
    }
    grid["compare"] = {"axis": "recipe", "baseline": "baseline", "replicates": ["fold"], **compare}
    return load(grid)


LOSS = {("cnn", "nvfp4"): 0.10, ("cnn", "sr"): 0.05, ("vit", "nvfp4"): 0.02, ("vit", "sr"): 0.01}


def results(plan, *, failing=()):
    """AUPRC by a rule: a level for the net, what the recipe takes away, and a little for seed and fold that both sides share."""
    keys = [str(number) for number in range(len(plan.cells))]
    found = {}
    for key, cell in zip(keys, plan.cells, strict=True):
        net, recipe, fold = cell.values["net"], cell.values["recipe"], cell.values["fold"]
        level = {"cnn": 0.7, "vit": 0.8}[net] + 0.01 * cell.seed + 0.03 * (fold == "b")
        wobble = 0.001 * ((cell.seed * 7 + 3 * (fold == "b") + len(recipe)) % 5 - 2)
        value = level - LOSS.get((net, recipe), 0.0) + wobble * (recipe != "baseline")
        number = {"value": value, "better": "higher", "unit": "fraction", "n": 9}
        found[key] = {"value": {"measures": {"AUPRC": number}, "run": {"steps": 1}}}
        if (net, recipe, fold, cell.seed) in failing:
            found[key] = {"failure": "it fell over"}
    return keys, found


def test_settings_are_compared_on_the_folds_that_both_have_whose_seeds_count_once(tmp_path):
    plan = wide()
    keys, found = results(plan)
    findings = concluded(plan, keys, found, tmp_path, phantom=False)
    by_name = {row.name: row for row in findings.comparisons}
    overall = {recipe: f"{recipe}, mean over every net" for recipe in ("nvfp4", "sr")}
    assert set(by_name) == {"cnn nvfp4", "cnn sr", "vit nvfp4", "vit sr", *overall.values()}
    for recipe, name in overall.items():
        row, of_nets = by_name[name], [by_name[f"{net} {recipe}"] for net in ("cnn", "vit")]
        assert row.n == 2 and row.comparisons == 6
        for key in ("difference", "value", "baseline_value"):
            assert getattr(row, key) == pytest.approx(sum(getattr(one, key) for one in of_nets) / 2, abs=1e-12)
    for (net, recipe), down in LOSS.items():
        row = by_name[f"{net} {recipe}"]
        assert row.n == 2 and row.difference == pytest.approx(-down, abs=0.002)
        assert row.interval[0] < -down < row.interval[1] or abs(row.difference + down) < 0.002
    assert findings.shares["AUPRC"].part("net").share > 0.4
    assert findings.ranks["AUPRC"].items == ("baseline", "sr", "nvfp4") and findings.ranks["AUPRC"].w > 0.99


def test_a_failed_cell_costs_its_pair_and_nothing_else(tmp_path):
    plan = wide()
    keys, found = results(plan, failing={("cnn", "sr", "b", 2)})
    findings = concluded(plan, keys, found, tmp_path, phantom=False)
    assert {row.name: row.n for row in findings.comparisons} == {
        "cnn nvfp4": 2,
        "cnn sr": 2,
        "vit nvfp4": 2,
        "vit sr": 2,
        "nvfp4, mean over every net": 2,
        "sr, mean over every net": 2,
    }
    values = {
        (c.values["net"], c.values["recipe"], c.values["fold"], c.seed): found[k]
        for k, c in zip(keys, plan.cells, strict=True)
    }
    there = [(fold, seed) for fold in "ab" for seed in (1, 2, 3) if (fold, seed) != ("b", 2)]
    lost = {
        at: [values["cnn", r, *at]["value"]["measures"]["AUPRC"]["value"] for r in ("sr", "baseline")] for at in there
    }
    folds = [sum(a - b for (f, _), (a, b) in lost.items() if f == fold) / (3 if fold == "a" else 2) for fold in "ab"]
    row = next(row for row in findings.comparisons if row.name == "cnn sr")
    assert row.difference == pytest.approx(sum(folds) / 2, abs=1e-12)
    assert [row["failure"] for row in findings.cells if "failure" in row] == ["it fell over"]
    assert findings.shares["AUPRC"].missing == 0 and findings.ranks["AUPRC"].dropped == 0
    keys, found = results(plan, failing={("cnn", "sr", "b", seed) for seed in (1, 2, 3)})
    findings = concluded(plan, keys, found, tmp_path, phantom=False)
    assert findings.shares["AUPRC"].missing == 1 and findings.ranks["AUPRC"].dropped == 1
    assert {row.name: row.n for row in findings.comparisons}["sr, mean over every net"] == 1
    keys, found = results(plan, failing={("cnn", "sr", fold, seed) for fold in "ab" for seed in (1, 2, 3)})
    names = {row.name for row in concluded(plan, keys, found, tmp_path, phantom=False).comparisons}
    assert "nvfp4, mean over every net" in names and not any(name.startswith("sr, mean") for name in names)


def test_without_folds_every_seed_counts(tmp_path):
    grid = {**GRID, "seeds": [1, 2, 3]}
    grid["axes"] = {
        "net": {"cnn": {"net": {"use": "cnn"}}, "vit": {}},
        "fold": {"a": {}},
        "recipe": {**GRID["axes"]["recipe"], "sr": {"qat": {"use": "nvfp4-sr"}}},
    }
    plan = load(grid)
    keys, found = results(plan)
    findings = concluded(plan, keys, found, tmp_path, phantom=False)
    assert {row.n for row in findings.comparisons} == {3} and findings.shares["AUPRC"].replicates == 3


def test_the_order_is_told_where_there_is_nothing_to_share_out(tmp_path):
    grid = {**GRID, "seeds": [1, 2, 3]}
    grid["axes"] = {"net": {"vit": {}}, "fold": {"a": {}}, "recipe": GRID["axes"]["recipe"]}
    plan = load(grid)
    keys, found = results(plan)
    findings = concluded(plan, keys, found, tmp_path, phantom=False)
    assert findings.ranks["AUPRC"].items == ("baseline", "nvfp4") and not findings.shares and not findings.left_out


def test_a_diverged_cell_is_named_and_is_no_success(tmp_path, capsys):
    from netweight.cli._render import exit_code, show

    plan = wide()
    keys, found = results(plan)
    assert exit_code(concluded(plan, keys, found, tmp_path, phantom=False)) == 0
    found[keys[1]]["value"]["run"] |= {"diverged": True, "ended": "not finite at step 3"}
    findings = concluded(plan, keys, found, tmp_path, phantom=False)
    assert exit_code(findings) == 3
    assert [row.diverged for row in findings.comparisons] == [1, 0, 0, 0, 1, 0]
    assert "In 1 pair a training diverged" in " ".join(findings.comparisons[0].words().split())
    show(findings)
    said = " ".join(capsys.readouterr().out.split())
    assert (
        "diverged, and judged as it ended: cnn, a, nvfp4, seed 1: not finite at step 3" in said
        or "diverged, and judged as it ended: cnn, a, nvfp4, 1: not finite at step 3" in said
    )


def test_a_row_of_one_s_own_is_part_of_a_cell_s_key(tmp_path, monkeypatch):
    from netweight.jobs import _training_study as job

    mine, keys = tmp_path / "mine.toml", []
    monkeypatch.setattr(
        job,
        "run",
        lambda tasks, *rest, **given: (
            keys.append([t.key for t in tasks]) or {t.key: {"failure": "not run"} for t in tasks}
        ),
    )
    grid = {**GRID, "axes": {"recipe": {"baseline": {"qat": {"use": "baseline"}}, "mine": {"qat": {"use": str(mine)}}}}}
    for base in ("nvfp4", "nvfp4-sr", "nvfp4"):
        mine.write_text(f'name = "mine"\nbase = "{base}"\n')
        (tmp_path / "out" / "cells").mkdir(exist_ok=True, parents=True)
        netweight.study(grid, out=tmp_path / "out")
    assert keys[0] == keys[2] and keys[0][0] == keys[1][0] and keys[0][1] != keys[1][1]


def test_what_cannot_be_found_is_said_and_costs_nothing_else(tmp_path):
    grid = {
        **GRID,
        "axes": {
            "net": {"cnn": {"net": {"use": "cnn"}}, "vit": {}},
            "fold": {"a": {}},
            "recipe": {**GRID["axes"]["recipe"], "sr": {"qat": {"use": "nvfp4-sr"}}},
        },
    }
    plan = load(grid)
    keys, found = results(plan)
    findings = concluded(plan, keys, found, tmp_path, phantom=False)
    assert [why.split(":")[0] for why in findings.left_out] == ["AUPRC, shares of variance"]
    assert "one seed cannot tell" in findings.left_out[0] and findings.ranks["AUPRC"].blocks == 2


def test_a_net_of_which_all_failed_is_not_averaged_over_in_silence(tmp_path):
    plan = wide()
    failing = {("vit", "sr", fold, seed) for fold in "ab" for seed in (1, 2, 3)}
    findings = concluded(plan, *results(plan, failing=failing), tmp_path, phantom=False)
    names = [row.name for row in findings.comparisons]
    assert "sr, mean over every net" not in names and "nvfp4, mean over every net" in names
    assert "AUPRC, vit sr: no pair with baseline" in findings.left_out
    assert "AUPRC, sr, mean over every net: vit sr has no pair" not in findings.left_out
    assert "AUPRC, sr, mean over every net: vit has no pair" in findings.left_out


def test_pairs_that_are_not_there_are_counted(tmp_path):
    """Precision of a net that finds nothing has no value: the worst run of a recipe would drop out unseen."""
    plan = wide(replicates=[])
    keys, found = results(plan, failing={("cnn", "nvfp4", "b", 3)})
    key = next(
        k for k, c in zip(keys, plan.cells, strict=True) if (*c.values.values(), c.seed) == ("cnn", "a", "sr", 2)
    )
    found[key]["value"]["measures"]["AUPRC"]["value"] = None
    by_name = {row.name: row for row in concluded(plan, keys, found, tmp_path, phantom=False).comparisons}
    assert {name: (row.n, row.missing) for name, row in by_name.items()} == {
        "cnn a nvfp4": (3, 0), "cnn a sr": (2, 1), "cnn b nvfp4": (2, 1), "cnn b sr": (3, 0), "vit a nvfp4": (3, 0), "vit a sr": (3, 0),
        "vit b nvfp4": (3, 0), "vit b sr": (3, 0), "nvfp4, mean over every net and fold": (2, 1), "sr, mean over every net and fold": (2, 1),
    }  # fmt: skip


def test_folds_widen_intervals_by_the_patients_that_they_share(tmp_path):
    plan = wide()
    keys, found = results(plan)
    alone = concluded(plan, keys, found, tmp_path, phantom=False).comparisons
    for result in found.values():
        result["value"]["run"] |= {"trained_on": 80, "judged_on": 10}
    for before, row in zip(alone, concluded(plan, keys, found, tmp_path, phantom=False).comparisons, strict=True):
        assert (before.overlap, row.overlap) == (0.0, 0.125) and row.difference == before.difference
        wider = [bounds[1] - bounds[0] for bounds in (row.interval, before.interval)]
        assert wider[0] / wider[1] == pytest.approx((1 + 2 * 0.125) ** 0.5)
        assert "folds that train on the same patients" in " ".join(row.words().split())
    folds = {"data": {"size": 32, "split": {"use": "folds", "k": 5}}}
    of_old = load({**GRID, "seeds": [1, 2], "recipe": {**GRID["recipe"], **folds},
                   "axes": {"fold": {str(k): {"data": {"split": {"fold": k}}} for k in (0, 1)}, **GRID["axes"]},
                   "compare": {**GRID["compare"], "replicates": ["fold"]}})  # fmt: skip
    rows = [{**c.values, "seed": c.seed, "AUPRC": 0.5 + 0.01 * n**2} for n, c in enumerate(of_old.cells)]
    assert of_rows(of_old, rows, {"AUPRC": "higher"}, tmp_path, phantom=False).comparisons[0].overlap == 0.125


@pytest.mark.parametrize(
    "parts, given, words",
    [
        ({}, {"model": "x"}, "--model is for studies of compression"),
        ({"data": None}, {}, "pass --data"),
        ({"recipe": {"net": {"use": "vitt"}}}, {}, "did you mean 'vit'"),
        ({"compare": {"axis": "recipe", "baseline": "baseline", "replicates": ["fold"]}}, {}, "'fold' is none of"),
        ({"compare": {"axis": "recipe", "baseline": "baseline", "replicates": ["recipe"]}}, {}, "cannot repeat"),
        ({"job": "compress", "data": None}, {}, "names no data"),
        ({"measure": [{"name": "AUPRC", "metric": "auprcc"}]}, {}, "did you mean 'auprc'"),
        ({"measure": [{"name": "a", "metric": m} for m in ("auprc", "dice")]}, {}, "named 'a', as is another"),
        ({"measure": [{"name": "recipe", "metric": "auprc"}]}, {}, "named 'recipe', as is another measure, an axis"),
        (
            {"measure": [{"name": "a", "metric": "auprc", "settings": {"fpr": 0.05}}]},
            {},
            "'settings' is for studies of comp",
        ),
        ({"measure": [{"name": "a", "metric": "auprc", "data": ["lgg-mri"]}]}, {}, "'data' is for studies of comp"),
        ({"measure": [{"name": "best", "metric": "auprc"}]}, {}, "a measure is named 'best', as is .* column"),
        ({"axes": {**GRID["axes"], "seed": {"a": {}}}}, {}, "an axis is named 'seed'"),
        ({"recipe": {**GRID["recipe"], "net": {"use": "vit", "size": "1m"}}}, {}, "size '1m' is not one of"),
        ({"recipe": {**GRID["recipe"], "data": {"size": 33}}}, {}, "33 .*: this net takes sides"),
    ],
)
def test_what_is_wrong_with_a_grid_is_said_before_the_first_cell(parts, given, words, tmp_path):
    grid = {key: value for key, value in {**GRID, **parts}.items() if value is not None}
    with pytest.raises(SettingsError, match=words):
        netweight.study(grid, out=tmp_path / "out", **given)
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "picture.png").write_bytes(b"")
    with pytest.raises(ExistsError, match="holds something that is not a study"):
        netweight.study(GRID, out=tmp_path)
    with pytest.raises(ExistsError, match=r"picture.png is a file"):
        netweight.study(GRID, out=tmp_path / "picture.png")
    assert [path.name for path in tmp_path.iterdir()] == ["picture.png"]


def test_recipes_and_studies_taken_for_each_other_are_told_apart(tmp_path):
    with pytest.raises(SettingsError, match="it has no .axes., so it is one recipe, for `netweight train`"):
        netweight.study({"seed": 1, "net": {"use": "cnn"}}, out=tmp_path / "out")
    with pytest.raises(SettingsError, match="for `netweight compress`"):
        netweight.study({"seed": 1, "step": [{"use": "rtn"}]}, out=tmp_path / "out")
    with pytest.raises(SettingsError, match="it has .axes., so it is for `netweight study`"):
        netweight.train(GRID, data="phantom", out=tmp_path / "out")
    wrong = {**GRID, "axes": {"recipe": {"baseline": {}, "q": {"training": {"lrr": 1}}}}}
    with pytest.raises(SettingsError, match=r"tiny: q, seed 1: .*'lrr' is not a setting"):
        netweight.study(wrong, out=tmp_path / "out")


def test_the_command_line_shows_findings_as_paragraphs(tmp_path, capsys):
    from netweight.cli._render import show

    plan = wide()
    keys, found = results(plan)
    show(concluded(plan, keys, found, tmp_path, phantom=True))
    shown = capsys.readouterr().out
    assert "36 of 36 cells done on phantoms" in shown and "Fewer than 3 folds give no intervals" in " ".join(
        shown.split()
    )

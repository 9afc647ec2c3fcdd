"""Studies: the grid as written, cells that survive what happens to them, and findings against known answers."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import netweight
import tiny
from netweight import recipe, registry
from netweight.errors import SettingsError
from netweight.evaluate import mask_metrics
from netweight.jobs import _cell
from netweight.jobs.compress import compress
from netweight.models import nets
from netweight.settings import parse
from netweight.study import Pool, Task, load, recovery, run, settled
from netweight.study._grid import laid_over
from netweight.study._pairs import fieller, seeds_needed
from netweight.train import TrainRecipe, load_recipe
from netweight.train import recipe as qat
from study.cells import double
from tiny_lm import tiny_llama, tiny_tokenizer

METRICS = "netweight.evaluate.metrics"
GRID = {
    "name": "test",
    "seeds": [0, 1, 2],
    "recipe": {"step": [{"format": "int2-g32"}]},
    "axes": {
        "method": {"rtn": {"step": [{"use": "rtn"}]}, "clip": {"step": [{"use": "mse_clip"}]}},
        "format": {"two": {}, "three": {"step": [{"format": "int3-g32"}]}},
    },
    "measure": [
        {
            "name": "ppl",
            "metric": "perplexity",
            "data": ["pydoc-topics/test"],
            "settings": {"window": 32, "max_windows": 4},
        }
    ],
    "compare": {"axis": "method", "baseline": "rtn"},
}


def test_cells_are_every_combination_for_every_seed_each_with_its_recipe():
    found = load(GRID)
    assert len(found.cells) == 12
    assert [cell.seed for cell in found.cells] == sorted(cell.seed for cell in found.cells)
    recipes = {(c.values["method"], c.values["format"]): c.recipe["step"] for c in found.cells if c.seed == 1}
    assert recipes["clip", "three"] == [{"format": "int3-g32", "use": "mse_clip"}]
    assert recipes["rtn", "two"] == [{"format": "int2-g32", "use": "rtn"}]
    assert all(cell.recipe["seed"] == cell.seed for cell in found.cells)
    keys = {cell.key({"code": "a"}) for cell in found.cells}
    assert len(keys) == 12 and keys.isdisjoint(cell.key({"code": "b"}) for cell in found.cells)


def test_what_is_skipped_is_left_out():
    found = load({**GRID, "skip": [{"method": "rtn", "format": "three"}]})
    assert len(found.cells) == 9


def test_tables_are_laid_over_one_another():
    assert laid_over({"a": [{"x": 1}, {"y": 2}], "b": 1}, {"a": [{"z": 3}], "c": 2}) == {
        "a": [{"x": 1, "z": 3}, {"y": 2}], "b": 1, "c": 2,
    }  # fmt: skip
    assert laid_over({"a": [1, 2]}, {"a": [3]}) == {"a": [3]}


@pytest.mark.parametrize(
    "change, said",
    [
        ({"seeds": [1, 1]}, "seeds"),
        ({"axes": {"method": {}}}, "no values"),
        ({"compare": {"axis": "metod", "baseline": "rtn"}}, "method"),
        ({"compare": {"axis": "method", "baseline": "rnt"}}, "rtn"),
        (
            {"compare": {**GRID["compare"], "replicates": ["method"]}},
            "replicates is for studies of training|is compared",
        ),
        ({"compare": {**GRID["compare"], "replicates": ["format"]}}, "replicates is for studies of training"),
        ({"measure": []}, "nothing is measured"),
        ({"sead": 1}, "did you mean 'seeds'"),
        ({"skip": [{"method": "rtn"}, {"method": "clip"}]}, "no cell is left"),
    ],
)
def test_what_is_wrong_with_a_grid_is_said(change, said):
    with pytest.raises(SettingsError, match=said):
        load({**GRID, **change})


# cells


def tasks(*whats):
    return [Task(f"k{index}", what, f"task {index}") for index, what in enumerate(whats)]


def test_cells_are_done_once_in_processes_of_their_own(tmp_path):
    found = run(tasks({"number": 1}, {"number": 2}, {"number": 3}), double, tmp_path, Pool(workers=2))
    assert [found[f"k{i}"]["value"] for i in range(3)] == [{"double": 2}, {"double": 4}, {"double": 6}]
    again = run(tasks({"number": 1}, {"number": 2}, {"number": 3}, {"number": 4}), double, tmp_path, Pool(workers=2))
    assert {key: row["value"] for key, row in again.items() if key != "k3"} == {k: r["value"] for k, r in found.items()}
    assert all((tmp_path / f"k{i}" / "times.txt").read_text() == "x" for i in range(4))


def test_a_failure_is_a_row_and_is_done_again_only_when_asked(tmp_path):
    found = run(tasks({"number": 1, "fail": True}, {"number": 2}), double, tmp_path)
    assert "as asked" in found["k0"]["failure"] and found["k1"]["value"] == {"double": 4}
    assert "failure" in run(tasks({"number": 1}, {"number": 2}), double, tmp_path)["k0"]
    again = run(tasks({"number": 1}, {"number": 2}), double, tmp_path, Pool(retry_failed=True))
    assert again["k0"]["value"] == {"double": 2}


def test_a_killed_cell_is_started_once_more_and_then_given_up(tmp_path):
    found = run(tasks({"number": 1, "die": True}, {"number": 2, "die always": True}), double, tmp_path)
    assert found["k0"]["value"] == {"double": 2}
    assert "-9" in found["k1"]["failure"]


def test_kill_9_of_the_whole_study_loses_no_finished_cell(tmp_path):
    code = f"""
        import sys; sys.path[:0] = {[str(Path(__file__).parents[1])]!r}
        from pathlib import Path
        from study.cells import double
        from netweight.study import Task
        from netweight.study import run
        if __name__ == "__main__":
            run([Task(f"k{{n}}", {{"number": n, "sleep": 0.3}}, "") for n in range(6)], double, Path({str(tmp_path)!r}))
    """
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(code))
    process = subprocess.Popen([sys.executable, str(script)], start_new_session=True)
    while not (tmp_path / "k1" / "result.json").exists():
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    finished = {p.parent.name: p.read_bytes() for p in tmp_path.glob("*/result.json")}
    assert 2 <= len(finished) < 6
    found = run(tasks(*({"number": n} for n in range(6))), double, tmp_path)
    assert [found[f"k{n}"]["value"]["double"] for n in range(6)] == [0, 2, 4, 6, 8, 10]
    assert all((tmp_path / key / "result.json").read_bytes() == data for key, data in finished.items())


def test_a_script_without_a_guard_is_run_once(tmp_path):
    """A spawned process runs its parent's main file again, unless it is kept from seeing one."""
    code = f"""
        import sys; sys.path[:0] = {[str(Path(__file__).parents[1])]!r}
        from pathlib import Path
        from study.cells import double
        from netweight.study import Task, run
        with open({str(tmp_path / "times")!r}, "a") as file:
            file.write("x")
        found = run([Task("k", {{"number": 4}}, "")], double, Path({str(tmp_path)!r}))
        print(found["k"]["value"]["double"])
    """
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(code))
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=300)
    assert (done.stdout, done.stderr, done.returncode) == ("8\n", "", 0) and (tmp_path / "times").read_text() == "x"


def test_cells_end_when_the_study_is_killed_alone(tmp_path):
    code = f"""
        import sys; sys.path[:0] = {[str(Path(__file__).parents[1])]!r}
        from pathlib import Path
        from study.cells import double
        from netweight.study import Task, run
        if __name__ == "__main__":
            run([Task("k", {{"number": 1, "sleep": 600, "pid": True}}, "")], double, Path({str(tmp_path)!r}))
    """
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(code))
    process = subprocess.Popen([sys.executable, str(script)])
    while not (tmp_path / "k" / "times.txt").exists():
        assert process.poll() is None
        time.sleep(0.05)
    child = int((tmp_path / "k" / "pid").read_text())
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    _await_the_end_of(child)


def test_a_cell_ends_that_was_only_starting_when_the_study_was_killed(tmp_path):
    code = f"""
        import multiprocessing, os, signal, sys, time; sys.path[:0] = {[str(Path(__file__).parents[1])]!r}
        from pathlib import Path
        from study.cells import double
        from netweight.study import Task, run

        def killed(_):
            (child,) = multiprocessing.active_children()
            Path({str(tmp_path / "pid")!r}).write_text(str(child.pid))
            os.kill(os.getpid(), signal.SIGKILL)

        if __name__ == "__main__":
            time.sleep = killed  # what the study does when it has started a cell
            run([Task("k", {{"number": 1, "sleep": 600}}, "")], double, Path({str(tmp_path)!r}))
    """
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(code))
    assert subprocess.run([sys.executable, str(script)]).returncode == -signal.SIGKILL
    _await_the_end_of(int((tmp_path / "pid").read_text()))


def _await_the_end_of(child: int) -> None:
    deadline = time.monotonic() + 120  # a process takes a while to start on a busy machine
    while Path(f"/proc/{child}").exists() and _state(child) != "Z":
        assert time.monotonic() < deadline, "the cell outlived its study"
        time.sleep(0.1)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return "Z"


# findings


def test_the_interval_of_a_share_covers_the_truth_as_often_as_it_says():
    rng, hits, trials = np.random.default_rng(0), 0, 4000
    for _ in range(trials):
        g = rng.normal(10, 2, 5)
        d = 0.1 * 10 + 0.05 * (g - 10) + rng.normal(0, 0.5, 5)
        _, low, high = fieller(d, g)
        hits += low is not None and low <= 0.1 <= high
    assert abs(hits / trials - 0.95) < 4 * math.sqrt(0.95 * 0.05 / trials)


def test_a_share_of_a_known_loss_is_a_plain_t_interval():
    d, g = np.array([1.0, 2.0, 0.5, 1.5]), np.full(4, 10.0)
    share, low, high = fieller(d, g)
    want = stats.t.interval(0.95, 3, d.mean() / 10, stats.sem(d) / 10)
    assert share == pytest.approx(d.mean() / 10) and (low, high) == pytest.approx(want)


def test_a_baseline_that_lost_nothing_has_nothing_to_recover():
    assert fieller(np.ones(3), -np.ones(3)) == (None, None, None)


def test_holm_is_applied_over_all_comparisons_and_verdicts_follow_the_interval():
    gains = {
        "strong": [1.0, 1.1, 0.9, 1.05, 0.95],
        "weak": [0.1, -0.1, 0.2, -0.3, 0.1],
        "harmful": [-1.0, -1.1, -0.9, -1.0, -1.2],
    }
    base = [20.0, 21.0, 19.5, 20.5, 20.2]
    rows = [
        recovery("s", name, "perplexity", base, [b - d for b, d in zip(base, ds, strict=True)], 10.0, better="lower")
        for name, ds in gains.items()
    ]
    found = {row.value: row for row in settled(rows, {name: (0.02, 0.2) for name in gains})}
    assert {name: row.verdict for name, row in found.items()} == {
        "strong": "confirmed", "weak": "unsettled", "harmful": "contradicted",
    }  # fmt: skip
    assert found["strong"].adjusted_p == pytest.approx(3 * 2 / 32)
    p = [stats.ttest_1samp(ds, 0).pvalue for ds in gains.values()]
    assert [found[name].t_p for name in gains] == pytest.approx(p)
    assert found["weak"].adjusted_t_p == pytest.approx(p[1])
    first, second = sorted((p[0], p[2]))
    assert sorted(found[name].adjusted_t_p for name in ("strong", "harmful")) == pytest.approx(
        [3 * first, max(3 * first, 2 * second)]
    )
    assert found["strong"].difference == pytest.approx(1.0) and found["strong"].share == pytest.approx(1.0 / 10.24)


def test_a_gain_that_does_not_stand_among_all_comparisons_is_said_to_be_one():
    base, gain = [20.0, 21.0, 19.5, 20.5, 20.2], [1.0, 0.2, 0.6, 1.4, 0.4]
    (alone,) = settled([made_of(base, gain)], {})
    assert 0.01 < alone.t_p < 0.05 and alone.verdict == "gain" and alone.seeds_to_settle == seeds_needed(np.array(gain))
    many = settled([made_of(base, gain)] * 20, {"x": (0.05, 0.2)})
    assert {row.verdict for row in many} == {"gain, not after Holm"} and many[0].seeds_to_settle > alone.seeds_to_settle
    assert {row.verdict for row in settled([made_of(base, [-d for d in gain])] * 20, {})} == {"loss, not after Holm"}
    (one,) = settled([made_of(base[:1], gain[:1])], {})
    assert one.verdict == "unsettled" and one.t_p is None and one.seeds_to_settle is None


def made_of(base, gain):
    return recovery("s", "x", "m", base, [b - d for b, d in zip(base, gain, strict=True)], 10.0, better="lower")


def test_published_figures_are_of_one_measure_and_may_differ_by_setting():
    base, gain = [20.0, 21.0, 19.5, 20.5, 20.2], [1.0, 1.1, 0.9, 1.05, 0.95]  # a tenth of what was lost
    better = [b - d for b, d in zip(base, gain, strict=True)]
    rows = [
        recovery(setting, "hybrid", measure, base, better, 10.0, better="lower")
        for setting in ("one", "two", "three")
        for measure in ("accuracy", "perplexity")
    ]
    published = {"hybrid": (0.05, 0.2), "two hybrid": (0.5, 0.6), "one": (0.9, 1.0)}
    found = {(row.setting, row.measure): row.verdict for row in settled(rows, published, "accuracy")}
    assert found == {
        ("one", "accuracy"): "confirmed", ("one", "perplexity"): "gain",
        ("two", "accuracy"): "gain smaller than published", ("two", "perplexity"): "gain",
        ("three", "accuracy"): "confirmed", ("three", "perplexity"): "gain",
    }  # fmt: skip
    assert {row.verdict for row in settled(rows, published) if row.setting == "two"} == {"gain smaller than published"}
    known = {row.setting: row.published for row in settled(rows, published, "accuracy") if row.measure == "accuracy"}
    assert known == {"one": (0.05, 0.2), "two": (0.5, 0.6), "three": (0.05, 0.2)}
    assert {row.published for row in settled(rows, published, "accuracy") if row.measure == "perplexity"} == {None}


@pytest.mark.parametrize(
    "published, verdict",
    [
        ((0.2, 0.9), "gain, compatible with what was published"),
        ((0.01, 0.03), "gain larger than published"),
        ((0.05, 0.3), "confirmed"),
        ((0.5, 0.9), "gain smaller than published"),
    ],
)
def test_confirmed_is_what_reaches_the_published_gain_for_certain(published, verdict):
    row = recovery("", "hybrid", "ppl", [20, 20.1, 19.9], [19.0, 18.5, 18.6], 10, better="lower")
    assert 0.05 < row.share_low < 0.06 and 0.2 < row.share_high < 0.21
    assert settled([row], {"hybrid": published})[0].verdict == verdict


# the verb


def test_a_study_of_a_real_grid_measures_compares_and_goes_on(tmp_path, monkeypatch):
    folder = tiny.saved(tiny_llama(), tmp_path / "model")
    tiny_tokenizer().save_pretrained(folder)
    grid = {**GRID, "seeds": [0, 1], "axes": {**GRID["axes"], "format": {"two": {}}}}
    found = netweight.study(grid, model=str(folder), out=tmp_path / "out", workers=2)
    assert len(found.cells) == 4 and not any("failure" in row for row in found.cells)
    (row,) = found.comparisons
    assert (row.setting, row.value, row.measure, row.n) == ("two", "clip", "ppl", 2)
    by_seed = {(r["method"], r["seed"]): r["ppl"] for r in found.cells}
    assert row.difference == pytest.approx(by_seed["rtn", 0] - by_seed["clip", 0])
    kept = json.loads((tmp_path / "out" / "study.json").read_text())
    assert len(kept["cells"]) == 4 and kept["original"]["ppl"] == pytest.approx(row.original)
    stamps = {p: p.stat().st_mtime_ns for p in (tmp_path / "out" / "cells").glob("*/result.json")}
    assert len(stamps) == 5
    netweight.study(grid, model=str(folder), out=tmp_path / "out")
    assert stamps == {p: p.stat().st_mtime_ns for p in (tmp_path / "out" / "cells").glob("*/result.json")}
    assert not list((tmp_path / "out").rglob("*.safetensors"))


@pytest.mark.parametrize("when", ["artifact made", "numbers kept"])
def test_a_cell_killed_between_its_artifact_and_its_result_is_done_again(when, tmp_path, monkeypatch):
    folder = tiny.saved(tiny_llama(), tmp_path / "model")
    tiny_tokenizer().save_pretrained(folder)
    measures = [measure.model_dump() for measure in load(GRID).measures]
    what = {"model": str(folder), "recipe": dict(load(GRID).cells[0].recipe), "measures": measures, "threads": 1}
    place = tmp_path / "cell"
    place.mkdir()
    with monkeypatch.context() as patched:
        if when == "artifact made":
            patched.setattr(_cell, "evaluate", _stop)
        else:
            patched.setattr(_cell, "_clear", lambda place: _stop() if (place / _cell.SPENT).exists() else None)
        with pytest.raises(KeyboardInterrupt):
            _cell.work(what, str(place))
    compressed = []
    monkeypatch.setattr(_cell, "compress", lambda *a, **k: compressed.append(1) or compress(*a, **k))
    found = _cell.work(what, str(place))
    assert found["measures"]["ppl"]["value"] > 1
    assert len(compressed) == (0 if when == "artifact made" else 1)
    assert not list(place.rglob("*.safetensors"))


def _stop(*_, **__):
    raise KeyboardInterrupt


def test_a_wrong_recipe_is_said_before_anything_has_run(tmp_path):
    wrong = {**GRID, "axes": {"method": {"rtn": {"step": [{"use": "rtn"}]}, "clip": {"step": [{"use": "mse_clop"}]}}}}
    with pytest.raises(SettingsError, match="mse_clip"):
        netweight.study(wrong, model="nothing", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_study_without_a_model_says_so(tmp_path):
    with pytest.raises(SettingsError, match="--model"):
        netweight.study(GRID, out=tmp_path / "out")


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[2] / "recipes" / "studies").glob("*.toml")), ids=lambda p: p.stem
)
def test_every_study_that_comes_along_can_be_read_with_all_its_recipes(path):
    found = load(path)
    for cell in found.cells:
        of = load_recipe(dict(cell.recipe)) if found.job == "train" else recipe.load(dict(cell.recipe))
        if isinstance(of, TrainRecipe):
            assert of.net.size in nets.sizes(of.net.use) and qat(of.qat.use).name == of.qat.use
    for measure in found.measures:
        if found.job == "train":
            assert measure.metric in {
                q.name for name in mask_metrics() for q in registry.find(METRICS, name).QUANTITIES
            }
            continue
        plugin = registry.find("netweight.evaluate.metrics", measure.metric)
        parse(plugin.Settings, measure.settings, measure.name)
        assert measure.claim in (None, *(quantity.name for quantity in plugin.QUANTITIES))

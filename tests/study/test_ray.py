"""Studies on a Ray cluster: what processes on this machine would give, whatever happens to workers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import pytest

import netweight
import tiny
from jobs.test_training_study import GRID as TRAINING
from netweight import provenance
from netweight.cli import main
from netweight.errors import SettingsError
from netweight.jobs import _cell, _training_cell
from netweight.settings import write_toml
from netweight.study import Pool, Task, _elsewhere, _ray, load, run
from study.cells import double
from study.test_study import GRID, _await_the_end_of, tasks
from tiny_lm import tiny_llama, tiny_tokenizer

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install -c constraints.txt 'netweight[ray]'")

TRAINED = TRAINING | {  # one cell is enough
    "axes": {"recipe": {"nvfp4": {"qat": {"use": "nvfp4"}}}},
    "compare": {"axis": "recipe", "baseline": "nvfp4"},
}


@pytest.fixture(scope="module")
def address():
    """A cluster of two CPUs on this machine; ``ray stop`` is not used, as it would end other people's clusters."""
    from ray.cluster_utils import Cluster

    temporary = tempfile.mkdtemp(prefix="ray-")  # short: sockets lie in it
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("OMP_NUM_THREADS", "7")  # what the cluster takes is not what a cell takes
        node = {"num_cpus": 2, "num_gpus": 0, "object_store_memory": 80 * 2**20, "include_dashboard": False}
        found = Cluster(initialize_head=True, head_node_args={**node, "temp_dir": temporary})
    yield found.address
    found.shutdown()
    assert temporary not in subprocess.run(["ps", "-eo", "args="], stdout=-1, text=True).stdout
    shutil.rmtree(temporary, ignore_errors=True)


@pytest.fixture
def on_another_disk(monkeypatch):
    """Workers look for a file that is not there, as they would on another machine."""
    here = _elsewhere.Home.here
    monkeypatch.setattr(_ray.Home, "here", lambda mark: replace(here(mark), mark=f"{mark}-not-there"))


def values(found):
    return {key: {name: part for name, part in row.items() if name != "seconds"} for key, row in found.items()}


def files(folder: Path) -> dict[str, bytes]:
    """All but what differs from one time to the next."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.name not in ("run.json", "result.json"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def test_rows_are_those_of_processes_on_this_machine(address, tmp_path):
    whats = [{"number": 1, "die always": True}, {"number": 2, "sleep": "x"}]
    here = run(tasks(*whats), double, tmp_path / "here", Pool(workers=2))
    there = run(tasks(*whats), double, tmp_path / "there", Pool(workers=2, ray=address))
    assert values(there) == values(here)
    assert there["k0"]["failure"] == "its process ended with code -9, 2 times"
    assert there["k1"]["failure"].startswith("TypeError: ") and "see traceback.txt" in there["k1"]["failure"]
    assert sorted(files(tmp_path / "there")) == sorted(files(tmp_path / "here"))


def test_a_study_goes_on_with_what_is_not_done(address, tmp_path):
    first = run(tasks({"number": 1}, {"number": 2, "fail": True}), double, tmp_path, Pool(workers=2, ray=address))
    assert first["k1"]["failure"] == "SettingsError: as asked"
    found = run(tasks({"number": 1}, {"number": 2}), double, tmp_path, Pool(ray=address, retry_failed=True))
    assert found["k0"] == first["k0"] and found["k1"]["value"] == {"double": 4}
    assert all((tmp_path / f"k{i}" / "times.txt").read_text() == "x" for i in range(2))
    assert not list(tmp_path.glob(".seen*"))


def test_a_worker_that_is_killed_has_its_cell_done_again_once(address, tmp_path):
    whats = [{"number": 1, "kill parent": True}, {"number": 2, "kill parent always": True}]
    found = run(tasks(*whats), double, tmp_path, Pool(workers=2, ray=address))
    assert found["k0"]["value"] == {"double": 2}
    assert found["k1"]["failure"] == "its Ray worker died (WorkerCrashedError), 2 times"


def test_a_cell_has_the_study_s_variables_and_folder_and_not_the_cluster_s(address, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("MKL_NUM_THREADS", "3")
    there = run(tasks({"environment": True}), double, Path("there"), Pool(ray=address))["k0"]["value"]
    want = {"OMP": None, "MKL": "3", "cwd": str(tmp_path), "folder": str(tmp_path / "there" / "k0"), "ray": False}
    assert there == want


def test_a_worker_on_another_disk_gives_back_all_that_its_cell_left(address, tmp_path, on_another_disk):
    (tmp_path / "k0").mkdir()
    (tmp_path / "k0" / "half.txt").write_text("of a try before")
    found = run(tasks({"environment": True}, {"die always": True}), double, tmp_path, Pool(workers=2, ray=address))
    made = Path(found["k0"]["value"]["folder"])
    assert made.parent != tmp_path and not made.exists()
    assert files(tmp_path / "k0") == {"deep/left.bin": bytes(range(256))}
    assert json.loads((tmp_path / "k0" / "result.json").read_text()) == found["k0"]
    assert "-9, 2 times" in found["k1"]["failure"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["k0", "k1"]


def test_a_compressed_cell_is_the_same_bytes(address, tmp_path):
    folder = tiny.saved(tiny_llama(), tmp_path / "model")
    tiny_tokenizer().save_pretrained(folder)
    plan = load(GRID)
    measures = [measure.model_dump() for measure in plan.measures]
    what = {"model": str(folder), "recipe": dict(plan.cells[0].recipe), "measures": measures, "threads": 1}
    (tmp_path / "here").mkdir()
    here = _cell.work(what, str(tmp_path / "here"))
    there = run([Task("k", what, "")], _cell.work, tmp_path / "there", Pool(ray=address))["k"]["value"]
    assert there["measures"] == here["measures"] and there["run"]["bytes"] == here["run"]["bytes"]
    assert files(tmp_path / "there" / "k") == files(tmp_path / "here") != {}


def test_a_trained_cell_of_another_disk_is_the_same_bytes(address, tmp_path, on_another_disk):
    there = netweight.study(TRAINED, out=tmp_path / "there", ray=address)
    assert "failure" not in there.cells[0]
    what = {"data": TRAINED["data"], "recipe": dict(load(TRAINED).cells[0].recipe), "device": "cpu", "threads": 1}
    here = _training_cell.work({**what, "measures": TRAINED["measure"]}, str(tmp_path / "here"))
    assert there.cells[0]["AUPRC"] == here["measures"]["AUPRC"]["value"]
    made, wanted = files(tmp_path / "there" / "cells" / there.cells[0]["key"]), files(tmp_path / "here")
    assert made == wanted and any(name.endswith("weights.safetensors") for name in made)


def test_an_interrupted_study_ends_its_cells(address, tmp_path):
    code = f"""
        import sys; sys.path[:0] = {[str(Path(__file__).parents[1])]!r}
        from pathlib import Path
        from study.cells import double
        from netweight.study import Pool, Task, run
        run([Task("k", {{"number": 1, "sleep": 600, "pid": True}}, "")], double, Path({str(tmp_path)!r}), Pool(ray={address!r}))
    """
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(code))
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs inherit it ignored
    )
    while not (tmp_path / "k" / "times.txt").exists():
        assert process.poll() is None
        time.sleep(0.05)
    child = int((tmp_path / "k" / "pid").read_text())
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert said.rstrip().endswith("KeyboardInterrupt") and not (tmp_path / "k" / "result.json").exists()
    _await_the_end_of(child)
    assert not list(tmp_path.glob(".seen*"))


def test_a_cluster_of_its_own_ends_with_the_study_and_is_quiet(tmp_path):
    code = f"""
        import sys; sys.path[:0] = {[str(Path(__file__).parents[1])]!r}
        from pathlib import Path
        from study.cells import double
        from netweight.study import Pool, Task, run
        found = run([Task("k", {{"number": 4}}, "")], double, Path({str(tmp_path)!r}), Pool(workers=2, ray="local"))
        import ray
        print(found["k"]["value"]["double"], ray.is_initialized())
    """
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(code))
    process = subprocess.Popen([sys.executable, str(script)], stdout=-1, stderr=-1, text=True, start_new_session=True)
    out, said = process.communicate(timeout=120)
    assert (out, said) == ("8 False\n", "")
    deadline = time.monotonic() + 20
    while left := _alive_in_session(process.pid):
        assert time.monotonic() < deadline, left
        time.sleep(0.2)


def _alive_in_session(leader: int) -> list[str]:
    """Its processes, without the dead that wait to be reaped."""
    said = subprocess.run(["ps", "-o", "stat=,args=", "-s", str(leader)], stdout=-1, text=True).stdout
    return [line for line in said.splitlines() if not line.startswith("Z")]


@pytest.mark.parametrize(
    "wrong, words",
    [
        ("127.0.0.1:9", "no Ray cluster answers"),
        ("nowhere", "no Ray cluster answers"),
        ("ray://127.0.0.1:10001", "for clients outside a cluster"),
    ],
)
def test_a_wrong_address_is_one_line(wrong, words, tmp_path, capsys):
    (tmp_path / "grid.toml").write_text(write_toml(TRAINED))
    assert main(["study", str(tmp_path / "grid.toml"), "--out", str(tmp_path / "out"), "--ray", wrong]) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("cells")]
    assert len(said) == 1 and words in said[0] and f"ray = {wrong}" in said[0]


def test_a_study_of_compression_goes_to_the_cluster_too(tmp_path):
    folder = tiny.saved(tiny_llama(), tmp_path / "model")
    tiny_tokenizer().save_pretrained(folder)
    with pytest.raises(SettingsError, match="no Ray cluster answers"):
        netweight.study(GRID, model=str(folder), out=tmp_path / "out", ray="127.0.0.1:9")


def test_a_cell_that_no_machine_of_the_cluster_could_take_is_refused(address, tmp_path):
    with pytest.raises(SettingsError, match="a cell of 3 threads .* none of the cluster has more than 2"):
        run(tasks({"number": 1}), double, tmp_path, Pool(threads=3, ray=address))
    assert not ray.is_initialized()


def test_a_process_that_is_connected_takes_that_cluster_and_leaves_it(address, tmp_path):
    ray.init(address, log_to_driver=False)
    try:
        with pytest.raises(SettingsError, match='"auto" takes that one'):
            run(tasks({"number": 1}), double, tmp_path, Pool(ray=address))
        assert run(tasks({"number": 1}), double, tmp_path, Pool(ray="auto"))["k0"]["value"] == {"double": 2}
        assert ray.is_initialized()
    finally:
        ray.shutdown()


def test_without_ray_the_way_out_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SettingsError, match=r"pip install -c constraints.txt 'netweight\[ray\]'"):
        run(tasks({"number": 1}), double, tmp_path, Pool(ray="auto"))


@pytest.mark.parametrize(
    "other, words",
    [
        ({"versions": {**provenance.versions(), "torch": "1.0"}}, "the study 1.0"),
        ({"code": "0" * 64}, "other source files of netweight"),
    ],
)
def test_a_worker_with_other_code_does_nothing(other, words, address, tmp_path, monkeypatch):
    here = _elsewhere.Home.here
    monkeypatch.setattr(_ray.Home, "here", lambda mark: replace(here(mark), **other))
    with pytest.raises(SettingsError, match=f"a worker of the cluster cannot do cells: .*{words}"):
        run([Task("k", {"number": 1}, "")], double, tmp_path, Pool(ray=address))
    assert not list(tmp_path.iterdir())

"""doctor says what is wrong, and the way out; each check is tried on a machine made of files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from netweight.jobs import doctor as job
from netweight.jobs.doctor import Checkup, Finding


def machine(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def meminfo(available_kb: int) -> dict[str, str]:
    return {"proc/meminfo": f"MemTotal: 99999999 kB\nMemAvailable:   {available_kb} kB\n"}


def test_an_old_python_is_a_problem():
    assert job.python((3, 10, 4)).status == "problem"
    assert job.python((3, 11, 0)) == Finding("python", "ok", "3.11.0")


def test_a_missing_package_is_a_problem_with_a_way_out():
    finding = job.package("no-such-package-as-this")
    assert finding.status == "problem" and "pip install" in finding.way_out


def test_torchvision_is_a_problem_where_it_is_present():
    assert "pip uninstall torchvision" in job.torchvision_absent(True).way_out
    assert job.torchvision_absent(False).status == "ok"


def test_available_memory_is_what_the_kernel_says(tmp_path: Path):
    finding = job.memory(machine(tmp_path, meminfo(20_000_000)))
    assert (finding.status, finding.found) == ("ok", "20.5 GB available")


def test_a_limit_of_the_container_counts_too(tmp_path: Path):
    files = {"sys/fs/cgroup/memory.max": "4000000000\n", "sys/fs/cgroup/memory.current": "1000000000\n"}
    finding = job.memory(machine(tmp_path, meminfo(20_000_000) | files))
    assert (finding.status, finding.found) == ("warning", "3.0 GB available")


def test_a_container_without_limit_changes_nothing(tmp_path: Path):
    files = {"sys/fs/cgroup/memory.max": "max\n", "sys/fs/cgroup/memory.current": "1000000000\n"}
    assert job.memory(machine(tmp_path, meminfo(20_000_000) | files)).found == "20.5 GB available"


def test_memory_that_cannot_be_read_is_said_to_be_unknown(tmp_path: Path):
    assert job.memory(tmp_path).found == "unknown"


@pytest.mark.parametrize(
    ("flags", "status", "named"),
    [("fpu avx2 avx512_vnni", "ok", "avx2 avx512_vnni"), ("fpu sse4_2", "warning", "no AVX2")],
)
def test_the_instruction_sets_that_matter_are_named(tmp_path: Path, monkeypatch, flags, status, named):
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    finding = job.cpu(machine(tmp_path, {"proc/cpuinfo": f"processor : 0\nflags : {flags}\n"}))
    assert finding.status == status and finding.found.endswith(named)


def test_energy_counters_are_readable_or_not_or_absent(tmp_path: Path):
    assert "no counters" in job.energy(tmp_path).found
    counter = "sys/class/powercap/intel-rapl:0/energy_uj"
    assert "cannot be read" in job.energy(machine(tmp_path, {counter: ""})).found
    assert job.energy(machine(tmp_path, {counter: "123\n"})).status == "ok"


def test_the_data_folder_is_absent_wrong_or_counted(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where no ../shared/data lies
    assert job.data_folder({}).status == "warning"
    assert job.data_folder({"NETWEIGHT_DATA": str(tmp_path / "nowhere")}).status == "problem"
    (tmp_path / "wikitext2").mkdir()
    assert job.data_folder({"NETWEIGHT_DATA": str(tmp_path)}).found.startswith("1 data sets")


def test_a_finding_that_is_not_ok_has_a_way_out():
    checkup = job.doctor()
    assert isinstance(checkup, Checkup)
    assert [finding for finding in checkup.findings if finding.status != "ok" and not finding.way_out] == []


def test_this_installation_has_no_problems(monkeypatch):
    monkeypatch.delenv("NETWEIGHT_DATA", raising=False)
    checkup = job.doctor()
    assert isinstance(checkup, Checkup) and checkup.problems() == ()


def test_the_json_text_lists_every_finding():
    text = job.doctor(json=True)
    assert isinstance(text, str)
    assert {"topic", "status", "found", "way_out"} == set(json.loads(text)[0])

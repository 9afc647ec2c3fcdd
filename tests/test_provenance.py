"""Hashes, seeds, versions, machine, commit."""

from __future__ import annotations

import hashlib
import json
import platform
from pathlib import Path

from netweight import provenance


def test_a_file_has_the_hash_of_its_bytes(tmp_path: Path):
    data = bytes(range(256)) * 5000
    (tmp_path / "weights").write_bytes(data)
    assert provenance.sha256_of_file(tmp_path / "weights") == hashlib.sha256(data).hexdigest()
    assert provenance.sha256_of_bytes(data) == hashlib.sha256(data).hexdigest()


def test_the_hash_of_plain_data_does_not_depend_on_key_order():
    assert provenance.sha256_of_json({"a": 1, "b": [2]}) == provenance.sha256_of_json({"b": [2], "a": 1})
    assert provenance.sha256_of_json({"a": 1}) != provenance.sha256_of_json({"a": 2})


def test_each_purpose_has_a_seed_of_its_own_that_never_changes():
    pinned = {
        (0, "residual"): 43940499085099747,
        (3, "heads", "model.layers.0.self_attn.o_proj"): 35648872263384114,
        (7, "", "loss", 12, 5): 30553155069099278,
    }
    assert {purpose: provenance.derived_seed(*purpose) for purpose in pinned} == pinned
    purposes = [(0,), (1,), (0, "a"), (0, "b"), (0, "a", "b"), (0, "ab"), (0, 1), (0, "1"), (0, ("a", "b"))]
    found = {provenance.derived_seed(*purpose) for purpose in purposes}
    assert len(found) == len(purposes) and all(0 <= number < 2**56 for number in found)


def test_versions_name_what_is_installed_and_leave_out_the_rest():
    found = provenance.versions()
    assert found["python"] == platform.python_version()
    assert "torch" in found and all(found.values())


def test_the_environment_is_plain_data():
    environment = provenance.environment(device="cpu", threads=1)
    assert json.loads(json.dumps(environment)) == environment
    assert environment["threads"] == 1 and environment["cores"] >= 1


def test_the_commit_is_a_hash_or_nothing():
    head = provenance.commit().removesuffix("+changes")
    assert head == "" or (len(head) == 40 and set(head) <= set("0123456789abcdef"))

"""Claims survive the file, and a file is replaced whole or not at all."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from netweight.claim import Claim, Comparison, read_claims, write_claims
from netweight.errors import EvidenceError

CLAIM = Claim(
    "perplexity", 23.61, "per token", 40, 22.5, 24.75, "BCa bootstrap", "tiny", "ab12", seeds={"bootstrap": 0}
)
COMPARED = replace(CLAIM, comparison=Comparison("original", 0.03, -0.01, 0.07, margin=0.1, verdict="non-inferior"))
ABSENT = replace(CLAIM, metric="energy", value=None, low=None, high=None, provenance="unavailable")


@pytest.mark.parametrize("claim", [CLAIM, COMPARED, ABSENT], ids=lambda claim: claim.metric)
def test_a_claim_is_read_back_as_it_was_written(claim: Claim):
    assert Claim.from_json(claim.to_json()) == claim


def test_a_file_of_claims_is_read_back_in_order(tmp_path: Path):
    write_claims(tmp_path / "claims.jsonl", [COMPARED, ABSENT])
    assert read_claims(tmp_path / "claims.jsonl") == [COMPARED, ABSENT]


def test_an_absent_file_holds_no_claims(tmp_path: Path):
    assert read_claims(tmp_path / "claims.jsonl") == []


def test_writing_leaves_nothing_else_behind(tmp_path: Path):
    write_claims(tmp_path / "claims.jsonl", [CLAIM])
    write_claims(tmp_path / "claims.jsonl", [])
    assert [path.name for path in tmp_path.iterdir()] == ["claims.jsonl"]


def test_a_file_stays_whole_when_writing_fails(tmp_path: Path):
    write_claims(tmp_path / "claims.jsonl", [CLAIM])
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_claims(tmp_path / "claims.jsonl", [replace(CLAIM, value=float("nan"))])
    assert read_claims(tmp_path / "claims.jsonl") == [CLAIM]


@pytest.mark.parametrize("line", ["{", "[]", "3", "{}", json.dumps({**json.loads(CLAIM.to_json()), "extra": 1})])
def test_what_is_not_a_claim_is_refused_with_the_line(line: str):
    with pytest.raises(EvidenceError, match="not a claim") as caught:
        Claim.from_json(line)
    assert repr(line[:120]) in str(caught.value)

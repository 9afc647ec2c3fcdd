"""The statement about calibration and test text is green only when everything was looked at."""

from __future__ import annotations

from dataclasses import replace

import pytest

from netweight.evidence._disjoint import disjoint
from netweight.evidence._input import ReportInput


@pytest.fixture
def one(two_artifacts: list[ReportInput]) -> ReportInput:
    return two_artifacts[0]


def test_zero_shared_over_all_pairs_is_good(one: ReportInput):
    found = disjoint([one])
    assert found.tone == "good"
    assert {text.role for text in found.texts} == {"calibration", "test"}
    assert all(len(text.sha256) == 12 for text in found.texts)


def test_two_artifacts_with_the_same_texts_are_counted_once(two_artifacts: list[ReportInput]):
    assert len(disjoint(two_artifacts).pairs) == 3


def test_a_test_text_nobody_checked_is_a_warning(one: ReportInput):
    found = disjoint([replace(one, overlap=one.overlap[1:])])
    assert found.tone == "warn"
    assert found.headline == "Not checked for shared text: pydoc-topics/train against wikitext2/test."


def test_an_overlap_without_a_count_is_not_a_zero(one: ReportInput):
    row = {name: value for name, value in one.overlap[0].items() if name != "shared"}
    assert disjoint([replace(one, overlap=[row, *one.overlap[1:]])]).tone == "warn"


def test_an_overlap_outweighs_what_was_not_checked(one: ReportInput):
    found = disjoint([replace(one, overlap=[one.overlap[0] | {"shared": 2, "share": 0.00001}])])
    assert found.tone == "bad"
    assert "2 13-grams (under 0.01 %)" in found.headline


def test_no_calibration_is_told_from_calibration_not_recorded(one: ReportInput):
    without = replace(one, manifest=one.manifest | {"calibration": None}, overlap=[])
    assert disjoint([without]).headline == "No calibration data was used, so no test text can have been seen."
    silent = replace(one, manifest={k: v for k, v in one.manifest.items() if k != "calibration"}, overlap=[])
    assert disjoint([silent]).tone == "warn"
    assert "is not recorded" in disjoint([silent]).headline


def test_text_that_was_only_timed_on_is_no_test_text(one: ReportInput):
    timed = replace(one.claims[4], data={"source": "elsewhere", "split": "all", "sha256": "0" * 64})
    assert disjoint([replace(one, claims=[*one.claims, timed])]).tone == "good"

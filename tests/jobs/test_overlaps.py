"""Had calibration seen the test text? Checked wherever the text can be had, and never silently green where it cannot."""

from __future__ import annotations

import json
import pydoc_data.topics
from pathlib import Path

import pytest
import torch

import netweight
from netweight import data
from netweight.evaluate import ChoiceItem, Items, Labelled, Text, task

RECIPE = """
name = "seen"
[calibration]
source = "{source}"
samples = 4
length = 64
[[step]]
use = "gptq"
format = "int4-g32"
"""


@pytest.fixture
def calibrated(workplace: Path):
    """Compresses the model with calibration text of this name or path and evaluates it: ``calibrated(source)``."""

    def make(source: str) -> list[dict]:
        (workplace / "seen.toml").write_text(RECIPE.format(source=source))
        netweight.compress("model", "seen.toml", out="seen", threads=1)
        netweight.evaluate("seen", against="model", preset="quick", threads=1)
        return rows()

    return make


def rows() -> list[dict]:
    return json.loads(Path("seen/overlap.json").read_text())


def first_screen(folder: str = "seen") -> str:
    """The report up to the first thing that must be opened to be read."""
    return netweight.report(folder).read_text().split("<details", 1)[0]


def test_disjoint_text_is_said_to_be_disjoint(workplace: Path):
    assert "share no 13-grams" in first_screen("int3")
    (row,) = json.loads(Path("int3/overlap.json").read_text())
    assert (row["calibration"], row["test"], row["shared"]) == ("pydoc-topics/train", "pydoc-topics/test", 0)


def test_no_calibration_is_said_to_have_seen_nothing(workplace: Path):
    assert json.loads(Path("int4/overlap.json").read_text()) == []
    assert "No calibration data was used" in first_screen("int4")


def test_calibration_on_the_test_text_is_on_the_reports_first_screen(calibrated):
    (row,) = calibrated("pydoc-topics/test")
    assert row["share"] == 1.0 and row["shared"] > 10_000 and row["examples"]
    assert "Test text was seen in calibration" in first_screen() and "share no" not in first_screen()


def test_a_text_file_of_the_users_own_is_checked_too(calibrated, workplace: Path):
    topics = pydoc_data.topics.topics
    stolen = data.corpus("pydoc-topics/test").documents[0]
    assert stolen in topics.values()
    (workplace / "mine.txt").write_text("word " * 400 + stolen, encoding="utf-8")
    (row,) = calibrated("mine.txt")
    assert row["calibration"] == "mine.txt" and row["shared"] > 13
    assert "Test text was seen in calibration" in first_screen()


def test_a_disjoint_text_file_gets_the_green_statement(calibrated, workplace: Path):
    (workplace / "mine.txt").write_text(" ".join(f"number {i}" for i in range(400)), encoding="utf-8")
    (row,) = calibrated("mine.txt")
    assert row["shared"] == 0 and "share no 13-grams" in first_screen()


def test_a_text_file_that_is_gone_or_changed_is_not_green(calibrated, workplace: Path):
    text = workplace / "mine.txt"
    text.write_text(" ".join(f"number {i}" for i in range(400)), encoding="utf-8")
    calibrated("mine.txt")
    text.write_text("something else entirely", encoding="utf-8")
    netweight.evaluate("seen", against="model", preset="quick", threads=1)
    (row,) = rows()
    assert row["shared"] is None and "not what it was" in row["why"]
    assert "Not checked for shared text: mine.txt against pydoc-topics/test" in first_screen()
    text.unlink()
    netweight.evaluate("seen", against="model", preset="quick", threads=1)
    assert "no such file" in rows()[0]["why"] and "share no" not in first_screen()


def test_one_artifacts_check_does_not_stand_for_anothers(calibrated, workplace: Path):
    """Two artifacts calibrated on files of one name, of which only one could be checked."""
    (workplace / "mine.txt").write_text(" ".join(f"number {i}" for i in range(400)), encoding="utf-8")
    calibrated("mine.txt")
    (workplace / "seen").rename(workplace / "first")
    calibrated("mine.txt")
    Path("seen/overlap.json").unlink()
    page = netweight.report(["first", "seen"]).read_text().split("<details", 1)[0]
    assert "Not checked for shared text" in page and "share no 13-grams" not in page


def test_batches_given_by_the_caller_cannot_be_checked_and_it_says_so(workplace: Path):
    batches = [{"input_ids": torch.arange(3, 67).reshape(2, 32)}]
    netweight.compress("model", "gptq.toml", out="seen", calibration=batches, threads=1)
    netweight.evaluate("seen", against="model", preset="quick", threads=1)
    assert rows()[0]["shared"] is None and "given by the caller" in rows()[0]["why"]
    assert "Not checked for shared text" in first_screen()


def test_questions_are_checked_with_their_answers(finished: Path):
    from netweight.artifact import open_artifact
    from netweight.jobs import _overlaps

    words = next(d for d in data.corpus("pydoc-topics/train").documents if len(d.split()) > 100).split()
    query, answer = " ".join(words[20:30]), " ".join(words[30:40])  # neither holds 13 words, together they do
    items = Items("choices", (ChoiceItem(query, ("no", answer), 1),), "questions", "all")
    pixels = Labelled(torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64), "pictures")
    artifact = open_artifact(finished / "int3")
    asked, seen = _overlaps.overlaps(artifact, [items, pixels])
    assert asked["test"] == "questions/all" and asked["shared"] > 0
    assert seen["shared"] is None and "not text" in seen["why"]


def test_each_text_is_looked_at_once(finished: Path):
    from netweight.jobs import _overlaps

    text = Text(("a b",), lambda words: [1, 2], "s")
    assert _overlaps.tests_of([task("perplexity", text), task("ece", text), task("bytes")]) == [text]

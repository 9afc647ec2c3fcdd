"""Calibration windows: without overlap, the same for the same seed, with their origin."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from netweight import data
from netweight.errors import DataError
from netweight.recipe import CalibrationSettings


@dataclass
class Words:
    """A tokenizer of whole words: ``w17`` is token 17."""

    eos_token_id: int | None = None
    cls_token_id: int | None = None
    sep_token_id: int | None = None

    def __call__(self, texts, *, add_special_tokens, verbose):
        assert not add_special_tokens and not verbose
        return {"input_ids": [[int(word[1:]) for word in text.split()] for text in texts]}


@pytest.fixture
def text(tmp_path):
    """Three documents, words w100, w101, ... w219."""
    words = [f"w{i}" for i in range(100, 220)]
    path = tmp_path / "words.txt"
    path.write_text("\f".join(" ".join(words[i : i + 40]) for i in (0, 40, 80)), encoding="utf-8")
    return str(path)


def windows(calibration):
    return torch.cat([batch["input_ids"] for batch in calibration.batches])


def test_windows_do_not_overlap_and_follow_the_text(text):
    found = windows(data.calibration(CalibrationSettings(source=text, samples=10, length=12), Words()))
    assert found.shape == (10, 12) and found.dtype == torch.int64
    assert sorted(found.flatten().tolist()) == list(range(100, 220))
    assert bool((found.diff(dim=1) == 1).all())


def test_the_same_seed_gives_the_same_windows_whatever_the_batch(text):
    settings = CalibrationSettings(source=text, samples=5, length=10)
    first = data.calibration(settings, Words(), seed=3)
    torch.manual_seed(99)
    np.random.seed(99)
    again = data.calibration(settings, Words(), seed=3, rows=2)
    assert torch.equal(windows(first), windows(again))
    assert first.provenance == again.provenance
    assert [len(b["input_ids"]) for b in first.batches] == [5]
    assert [len(b["input_ids"]) for b in again.batches] == [2, 2, 1]
    other = data.calibration(settings, Words(), seed=4)
    assert not torch.equal(windows(first), windows(other))
    assert first.provenance["tokens_sha256"] != other.provenance["tokens_sha256"]


def test_drawing_leaves_the_global_generator_alone(text):
    torch.manual_seed(7)
    want = torch.rand(1)
    torch.manual_seed(7)
    data.calibration(CalibrationSettings(source=text, samples=5, length=10), Words())
    assert torch.equal(torch.rand(1), want)


def test_documents_end_with_the_tokenizers_end_token(text):
    found = windows(data.calibration(CalibrationSettings(source=text, samples=1, length=123), Words(eos_token_id=7)))
    assert found[0, [40, 81, 122]].tolist() == [7, 7, 7]


def test_an_encoders_windows_are_framed_by_its_special_tokens(text):
    tokenizer = Words(eos_token_id=7, cls_token_id=1, sep_token_id=2)
    found = windows(data.calibration(CalibrationSettings(source=text, samples=12, length=12), tokenizer))
    assert found[:, 0].tolist() == [1] * 12 and found[:, -1].tolist() == [2] * 12
    assert sorted(found[:, 1:-1].flatten().tolist()) == list(range(100, 220))
    with pytest.raises(DataError, match="at least 3 tokens"):
        data.calibration(CalibrationSettings(source=text, samples=1, length=2), tokenizer)


def test_the_origin_is_recorded_without_a_folder(text):
    made = data.calibration(CalibrationSettings(source=text, samples=4, length=20), Words(), seed=2)
    assert {k: v for k, v in made.provenance.items() if "sha256" not in k} == {
        "source": "words.txt", "split": "", "seed": 2, "samples": 4, "length": 20, "tokens": 80,
    }  # fmt: skip
    assert made.provenance["sha256"] == data.corpus(text).sha256


def test_text_that_is_too_short_says_how_much_is_needed(text):
    with pytest.raises(
        DataError, match=r"words.txt is too short: 7 windows of 20 tokens need 140, it has 120 tokens \(6 win"
    ):
        data.calibration(CalibrationSettings(source=text, samples=7, length=20), Words())
    with pytest.raises(DataError, match="rows = 0"):
        data.calibration(CalibrationSettings(source=text, samples=1, length=20), Words(), rows=0)


def test_batches_of_the_caller_are_kept_as_they_are():
    x, y = torch.randn(2, 3), torch.arange(3)
    batches = [x, (x, y), {"a": x, "more": [y]}]
    made = data.from_batches(iter(batches), source="mine")
    assert all(a is b for a, b in zip(made.batches, batches, strict=True))
    assert (made.provenance["source"], made.provenance["batches"]) == ("mine", 3)
    assert made.provenance["sha256"] == data.from_batches(batches).provenance["sha256"]
    assert made.provenance["sha256"] != data.from_batches([x + 1, (x, y), {"a": x, "more": [y]}]).provenance["sha256"]
    assert data.from_batches([]).batches == []


def test_batches_that_are_not_finite_or_not_tensors_are_named():
    good, bad = torch.ones(2, 2), torch.tensor([[1.0, float("nan")], [float("inf"), 0.0]])
    with pytest.raises(DataError, match=r"batch 1\['pixels'\]\[0\] holds 2 NaN or Inf of 4 values"):
        data.from_batches([good, {"pixels": (bad,)}])
    with pytest.raises(DataError, match="batch 0 is a str without tensors"):
        data.from_batches(["text"])

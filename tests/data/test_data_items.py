"""Questions and pairs from local files."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from netweight import data
from netweight.errors import DataError

REAL = Path(os.environ.get("NETWEIGHT_DATA", "../shared/data"))
CHOICE = {"query": "Q", "choices": ["a", "b"], "gold": 1}


@pytest.mark.parametrize(
    "row, kind, item",
    [
        (CHOICE, "choices", data.ChoiceItem("Q", ("a", "b"), 1)),
        (
            {"context_options": ["x", "y"], "continuation": "z", "gold": 0, "extra": None},
            "context-choices",
            data.ContextChoiceItem(("x", "y"), "z", 0),
        ),
        ({"context": "c", "continuation": "d"}, "continuations", data.ContinuationItem("c", "d")),
    ],
)
def test_each_schema_gives_its_item(tmp_path, row, kind, item):
    path = tmp_path / "set.jsonl"
    path.write_text(json.dumps(row) + "\n\n" + json.dumps(row) + "\n", encoding="utf-8")
    found = data.items(path)
    assert (found.kind, found.items, found.source, len(found)) == (kind, (item, item), "set.jsonl", 2)
    assert list(found) == [item, item]


@pytest.mark.parametrize(
    "second, message",
    [
        ("{", "line 2: not JSON"),
        ("[1]", "line 2: an item is a JSON object, this is a list"),
        ({"context": "c", "answer": "5"}, "line 2: keys answer, context are of no kind known here"),
        ({"context": "c", "continuation": "d"}, "line 2: an item of kind 'continuations' in a file of kind 'choices'"),
        (CHOICE | {"gold": 2}, "line 2: 'gold' must be a whole number from 0 to 1, not 2"),
        (CHOICE | {"gold": True}, "'gold' must be a whole number"),
        (CHOICE | {"gold": "1"}, "'gold' must be a whole number"),
        (CHOICE | {"choices": ["a"]}, "line 2: 'choices' must be a list of at least two strings"),
        (CHOICE | {"query": None}, "line 2: 'query' must be a string, not None"),
    ],
)
def test_a_bad_line_is_named(tmp_path, second, message):
    path = tmp_path / "set.jsonl"
    text = second if isinstance(second, str) else json.dumps(second)
    path.write_text(json.dumps(CHOICE) + "\n" + text + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=f"set.jsonl, .*{message}"):
        data.items(path)


def test_pairs_come_from_three_columns_with_or_without_a_header(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text('a,"b, with comma",5.0\n\nc,"d\n""quoted""",0.25\n', encoding="utf-8")
    want = (data.PairItem("a", "b, with comma", 5.0), data.PairItem("c", 'd\n"quoted"', 0.25))
    assert data.items(path).items == want
    path.write_text("sentence1,sentence2,score\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    assert (data.items(path).items, data.items(path).kind) == (want, "pairs")


@pytest.mark.parametrize(
    "text, message",
    [
        ("a,b,1\nc,d\n", "line 2: a pair has three columns.*this line has 2"),
        ("a,b,1\nc,d,high\n", "line 2: the score 'high' is not a number"),
        ("a,b,nan\n", "line 1: the score 'nan' is not finite"),
        ('a,"b,1\n', "not CSV"),
        ("", "holds no items"),
        ("sentence1,sentence2,score\n", "holds no items"),
    ],
)
def test_a_bad_pair_is_named(tmp_path, text, message):
    path = tmp_path / "pairs.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        data.items(path)


def test_other_and_missing_files_are_refused(tmp_path):
    with pytest.raises(DataError, match="read from .jsonl or .csv"):
        data.items(tmp_path / "a.parquet")
    with pytest.raises(DataError, match="no such file"):
        data.items(tmp_path / "a.jsonl")


@pytest.mark.parametrize(
    "name, kind, count",
    [
        ("zero-shot/arc_easy.jsonl", "choices", 1236),
        ("zero-shot/winogrande.jsonl", "context-choices", 661),
        ("zero-shot/lambada_openai.jsonl", "continuations", 2534),
        ("stsb-en/stsb-en-dev.csv", "pairs", 1500),
    ],
)
def test_real_sets_are_read_whole(name, kind, count):
    if not (REAL / name).is_file():
        pytest.skip(f"{REAL / name} is absent; NETWEIGHT_DATA names the folder of real data")
    found = data.items(REAL / name)
    assert (found.kind, len(found)) == (kind, count)

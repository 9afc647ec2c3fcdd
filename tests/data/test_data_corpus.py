"""Text by name and from files."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from netweight import data
from netweight.errors import DataError

REAL = Path(os.environ.get("NETWEIGHT_DATA", "../shared/data"))


def test_a_text_file_is_one_document_unless_it_has_separators(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("one\n\nstill one", encoding="utf-8")
    assert data.corpus(path).documents == ("one\n\nstill one",)
    path.write_text("one<|endoftext|>two\ftwo and a half\f \n", encoding="utf-8")
    assert data.corpus(str(path)).documents == ("one", "two", "two and a half")


def test_a_jsonl_file_has_one_document_per_line(tmp_path):
    path = tmp_path / "a.jsonl"
    rows = [{"text": "first\nwith two lines", "id": 1}, {"text": "second\u2028still second"}]
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n", encoding="utf-8")
    found = data.corpus(path)
    assert found.documents == ("first\nwith two lines", "second\u2028still second")
    assert (found.source, found.split) == ("a.jsonl", "")


def test_the_hash_is_of_the_documents_not_of_the_file(tmp_path):
    (tmp_path / "a.txt").write_text("one<|endoftext|>two", encoding="utf-8")
    (tmp_path / "b.jsonl").write_text('{"text": "one"}\n\n{"text":"two"}', encoding="utf-8")
    (tmp_path / "c.txt").write_text("onetwo", encoding="utf-8")
    a, b, c = (data.corpus(tmp_path / name).sha256 for name in ("a.txt", "b.jsonl", "c.txt"))
    assert a == b != c


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("a.txt", b" \n\f \n", "a.txt holds no text"),
        ("a.jsonl", b"\n", "a.jsonl holds no text"),
        ("a.jsonl", b'{"text": "x"}\n{"txt": "y"}', r'line 2: a document is \{"text"'),
        ("a.jsonl", b'{"text": "x"}\n{', "line 2: not JSON"),
        ("a.jsonl", b'{"text": 3}', "line 1: a document is"),
        ("a.txt", b"caf\xe9", "not UTF-8 text: byte 3"),
    ],
)
def test_a_bad_file_is_named_with_its_line(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        data.corpus(tmp_path / name)


def test_missing_files_and_unknown_names_are_said(tmp_path):
    with pytest.raises(DataError, match="no such file: .*absent.txt"):
        data.corpus(tmp_path / "absent.txt")
    with pytest.raises(DataError, match="no corpus named 'pydoc-topic/train'; did you mean 'pydoc-topics/train'"):
        data.corpus("pydoc-topic/train")


def test_every_source_names_its_splits():
    assert {"pydoc-topics/train", "pydoc-topics/test", "wikitext2/valid", "wikitext2/test_a"} <= set(data.corpora())


def test_pydoc_topics_come_in_two_parts_that_share_no_passage():
    train, test = data.corpus("pydoc-topics/train"), data.corpus("pydoc-topics/test")
    assert not set(train.documents) & set(test.documents)
    assert data.shared_ngrams(train, test, n=13).shared == 0
    whole = sum(len(d) for d in train.documents + test.documents)
    share = sum(len(d) for d in train.documents) / whole
    assert 0.6 <= share <= 0.8 and len(test.documents) >= 20
    assert whole > 400_000  # enough for 128 windows of 512 tokens at some 4 characters a token


def test_a_named_corpus_is_the_same_every_time():
    assert data.corpus("pydoc-topics/test") == data.corpus("pydoc-topics/test")


def test_wikitext_articles_begin_at_headings_of_the_first_level(tmp_path, monkeypatch):
    monkeypatch.setenv("NETWEIGHT_DATA", str(tmp_path))
    (tmp_path / "wikitext2").mkdir()
    text = (
        " \n = First title = \n \n Some = text = here .\n \n = = Part = = \n \n More .\n \n = Second = \n \n Words .\n"
    )
    (tmp_path / "wikitext2" / "valid.txt").write_text(text, encoding="utf-8")
    first, second = data.corpus("wikitext2/valid").documents
    assert first.startswith(" = First title =") and "More ." in first
    assert second == " = Second = \n \n Words .\n"
    with pytest.raises(DataError, match="no such file: .*test_a.txt"):
        data.corpus("wikitext2/test_a")


def test_wikitext_without_its_folder_says_what_to_set(tmp_path, monkeypatch):
    monkeypatch.delenv("NETWEIGHT_DATA", raising=False)
    monkeypatch.chdir(tmp_path)  # where no ../shared/data lies
    with pytest.raises(DataError, match="wikitext2/valid needs NETWEIGHT_DATA"):
        data.corpus("wikitext2/valid")


def test_real_wikitext_has_its_articles(monkeypatch):
    if not (REAL / "wikitext2").is_dir():
        pytest.skip(f"{REAL / 'wikitext2'} is absent; NETWEIGHT_DATA names the folder of real data")
    monkeypatch.setenv("NETWEIGHT_DATA", str(REAL))
    assert len(data.corpus("wikitext2/valid").documents) == 60
    assert len(data.corpus("wikitext2/test_a").documents) == 31


def test_the_data_folder_lies_beside_the_project_unless_it_is_named(tmp_path, monkeypatch):
    (tmp_path / "shared" / "data").mkdir(parents=True)
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.delenv("NETWEIGHT_DATA", raising=False)
    found = data.folder()
    assert found is not None and found.samefile(tmp_path / "shared" / "data")
    monkeypatch.setenv("NETWEIGHT_DATA", str(tmp_path))
    assert data.folder() == tmp_path
    monkeypatch.setenv("NETWEIGHT_DATA", str(tmp_path / "nowhere"))  # named wrongly: no silent way back to the default
    assert data.folder() is None

"""Shared word n-grams, against sets of tuples, and with a planted passage."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netweight import data
from netweight.data._overlap import shared_groups
from netweight.errors import DataError

TEXT = st.lists(st.sampled_from(["ab", "ac,", "ba.", "Cd", "CD", "cd!", "e-f", "é", "\n", "--"]), max_size=40).map(
    " ".join
)
PASSAGE = "The quick brown fox jumps over the lazy dog while nine old owls watch quietly from above"


def grams(texts, n):
    """The definition: a set of tuples of words."""
    found = set()
    for text in texts:
        words = re.findall(r"[^\W_]+", text.lower())
        found |= {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}
    return found


@given(st.lists(TEXT, max_size=4), st.lists(TEXT, max_size=4), st.integers(1, 5))
def test_the_count_is_that_of_sets_of_word_tuples(a, b, n):
    want, of_b = grams(a, n) & grams(b, n), grams(b, n)
    got = data.shared_ngrams(a, b, n=n)
    assert got.shared == len(want)
    assert got.share_of_b == (len(want) / len(of_b) if of_b else 0)
    assert {tuple(e.split()) for e in got.examples} <= want and bool(got.examples) == bool(want)


def test_a_planted_passage_is_found_despite_case_and_punctuation():
    noise = " ".join(f"word{i}" for i in range(500))
    changed = PASSAGE.upper().replace(" ", ", ")
    found = data.shared_ngrams([f"{noise} {PASSAGE} {noise}"], ["Other text entirely.", f"before {changed} after"])
    words = len(PASSAGE.split())
    assert found.shared == words - 13 + 1
    assert found.examples == (" ".join(PASSAGE.lower().split()[:13]),)


def test_twelve_shared_words_are_not_thirteen():
    words = PASSAGE.split()
    assert data.shared_ngrams([" ".join([*words[:12], "x"])], [" ".join([*words[:12], "y"])]).shared == 0
    assert data.shared_ngrams([" ".join(words[:13])], [" ".join(words[:13])]).shared == 1


def test_no_ngram_runs_over_the_end_of_a_document():
    words = PASSAGE.split()
    assert data.shared_ngrams([" ".join(words[:8]), " ".join(words[8:])], [PASSAGE]).shared == 0


def test_corpora_and_empty_texts_can_be_compared(tmp_path):
    (tmp_path / "a.txt").write_text(PASSAGE, encoding="utf-8")
    corpus = data.corpus(tmp_path / "a.txt")
    assert data.shared_ngrams(corpus, corpus).share_of_b == 1
    assert data.shared_ngrams([], corpus) == data.Overlap(13, 0, 0.0, ())
    with pytest.raises(DataError, match="n must be at least 1"):
        data.shared_ngrams(corpus, corpus, n=0)


@given(st.lists(TEXT, max_size=6))
def test_groups_share_nothing_and_cannot_be_split(texts):
    groups = shared_groups(texts, n=2)
    assert sorted(i for group in groups for i in group) == list(range(len(texts)))
    for group in groups:
        others = [texts[i] for i in range(len(texts)) if i not in group]
        assert not grams([texts[i] for i in group], 2) & grams(others, 2)
        for member in group if len(group) > 1 else []:
            assert grams([texts[member]], 2) & grams([texts[i] for i in group if i != member], 2)


def test_many_short_texts_are_compared_in_one_pass():
    """Work grows with the words of both texts, not with their product: 200 times the texts take far less than 200 times the time."""
    corpus = [" ".join(f"w{(7 * i + j) % 5003}" for j in range(400)) for i in range(400)]
    few, many = (["some words that no text before it has " * 3] * count for count in (20, 4000))
    took = []
    for texts in (few, many):
        begun = time.process_time()
        assert data.shared_ngrams(corpus, texts).shared == 0
        took.append(time.process_time() - begun)
    assert took[1] < 20 * took[0]

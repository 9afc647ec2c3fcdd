"""Which tokens are scored, with which context, and for which document."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluate.fakes import encode, text
from netweight.errors import DataError, SettingsError
from netweight.evaluate._windows import TextSettings, cut, padded
from netweight.settings import parse
from oracles import metrics_language as oracle


def settings(**values) -> TextSettings:
    return parse(TextSettings, values, "text")


def test_without_overlap_every_window_leaves_its_first_token_out():
    windows, clusters = cut(text("abcdefgh"), settings(window=3))
    assert [list(w.ids_T) for w in windows] == [encode("abc"), encode("def"), encode("gh")]
    assert [w.scored_S.tolist() for w in windows] == [[1, 2], [1, 2], [1]]
    assert clusters == 1


def test_with_a_smaller_stride_every_token_but_the_first_is_scored_once():
    windows, _ = cut(text("abcdefgh"), settings(window=4, stride=2))
    assert [list(w.ids_T) for w in windows] == [encode("abcd"), encode("cdef"), encode("efgh")]
    assert [w.scored_S.tolist() for w in windows] == [[1, 2, 3], [2, 3], [2, 3]]


def test_a_bos_is_context_counts_towards_the_window_and_is_never_scored():
    windows, _ = cut(text("abcde", bos_id=30), settings(window=4, bos="window"))
    assert [list(w.ids_T) for w in windows] == [[30, *encode("abc")], [30, *encode("de")]]
    assert [w.scored_S.tolist() for w in windows] == [[1, 2, 3], [1, 2]]


@given(st.integers(1, 60), st.integers(2, 12), st.integers(1, 12))
def test_scored_tokens_and_their_contexts_are_those_of_the_definition(length, window, stride):
    stride = min(stride, window)
    letters = ("abcdefghijklmnopqrstuvwxyz" * 3)[:length]
    want = oracle.scored_positions(length, window, stride)
    if not want:
        with pytest.raises(DataError, match="no token that can be scored"):
            cut(text(letters), settings(window=window, stride=stride))
        return
    windows, _ = cut(text(letters), settings(window=window, stride=stride))
    found = [(letters_of(w), int(t)) for w in windows for t in w.scored_S]
    assert found == [(letters[s : s + window], t - s) for s, t in want]


def letters_of(window) -> str:
    return "".join("abcdefghijklmnopqrstuvwxyz"[i] for i in window.ids_T)


@given(st.integers(2, 60), st.integers(2, 12), st.integers(1, 11))
def test_with_overlap_each_token_has_at_least_window_minus_stride_of_context_once_there_is_so_much(
    length, window, stride
):
    stride = min(stride, window - 1)
    windows, _ = cut(text("a" * length), settings(window=window, stride=stride))
    contexts = [int(t) for w in windows for t in w.scored_S]
    assert len(contexts) == length - 1
    for token, context in enumerate(contexts, 1):
        assert context >= min(token, window - stride)


def test_joined_windows_run_through_documents_and_remember_whose_token_it_is():
    windows, clusters = cut(text("abc", "de", "fghi"), settings(window=4, layout="joined"))
    assert [letters_of(w) for w in windows] == ["abcd", "efgh"]  # "i" alone has no context
    assert [w.clusters_S.tolist() for w in windows] == [[0, 0, 1], [2, 2, 2]]
    assert clusters == 3


def test_a_document_too_short_to_score_is_no_cluster():
    windows, clusters = cut(text("abc", "x", "de"), settings(window=4))
    assert clusters == 2
    assert [w.clusters_S.tolist() for w in windows] == [[0, 0], [1]]


def test_windows_can_be_the_clusters():
    windows, clusters = cut(text("abcdefgh", "abc"), settings(window=4, cluster="window"))
    assert clusters == 3
    assert [np.unique(w.clusters_S).tolist() for w in windows] == [[0], [1], [2]]


def test_max_windows_stops_in_order():
    windows, clusters = cut(text("abcdefgh", "abc"), settings(window=4, max_windows=1))
    assert len(windows) == 1 and clusters == 1


def test_padding_is_on_the_right_and_masked():
    windows, _ = cut(text("abcd", "ab"), settings(window=4))
    ids_BT, mask_BT = padded(windows)
    assert mask_BT is not None
    assert mask_BT.tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert ids_BT[1, :2].tolist() == encode("ab")
    assert padded(windows[:1])[1] is None


def test_a_stride_that_skips_tokens_is_refused_with_its_value():
    with pytest.raises(SettingsError, match="a stride of 9 skips tokens: a window holds 8"):
        settings(window=8, stride=9)
    with pytest.raises(SettingsError, match="a window holds 7"):
        settings(window=8, stride=8, bos="window")


def test_a_bos_that_does_not_exist_is_refused():
    with pytest.raises(DataError, match="no bos_id was given"):
        cut(text("abc"), settings(bos="window"))


def test_no_stride_means_no_overlap():
    assert settings(window=64).stride == 64
    assert settings(window=64, bos="window").stride == 63

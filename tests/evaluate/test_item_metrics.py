"""Questions, continuations, sentence pairs, classifiers: hand-made answers and the definition."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch
from scipy import stats

from evaluate.fakes import LETTERS, bigram, encode, model_of, random_bigram
from netweight.errors import DataError, EvidenceError
from netweight.evaluate import (
    ChoiceItem,
    ContextChoiceItem,
    ContinuationItem,
    Items,
    Labelled,
    PairItem,
    Subject,
    run,
    task,
)
from netweight.evaluate._continuations import request
from oracles import metrics_language as oracle

V = len(LETTERS)


def measure(metric, data, *subjects, **settings):
    return {(c.subject, c.metric): c for c in run(subjects, tasks=[task(metric, data, **settings)], resamples=200)}


def favouring(name: str, **likely: float):
    """A bigram model with 0 logits except where stated: ``ab=3`` makes b likely after a."""
    table = torch.zeros(V, V, dtype=torch.float64)
    for pair, logit in likely.items():
        first, second = encode(pair.replace("_", " "))
        table[first, second] = logit
    return bigram(name, table)


QUESTIONS = (
    ChoiceItem("is it", ("yes", "no", "maybe so"), 0),
    ChoiceItem("or not", ("no", "yes indeed"), 1),
    ChoiceItem("what", ("cat", "dog"), 0),
)


def questions(items=QUESTIONS):
    return Items("choices", items, "made up", encode=encode)


def test_raw_choice_favours_short_answers_and_per_byte_choice_does_not():
    """All tokens equally likely: raw takes the shortest; per byte of the choice "x" (2 tokens with its space) loses to "xxxx" (5)."""
    items = (ChoiceItem("q", ("x", "xxxx"), 0), ChoiceItem("q", ("xxxx", "x"), 0))
    found = measure("multiple_choice", questions(items), bigram("flat", torch.zeros(V, V)))
    assert found["flat", "multiple_choice_raw"].value == 0.5
    assert found["flat", "multiple_choice_normalised"].value == 0.5
    picked_long = ChoiceItem("q", ("x", "xxxx"), 1)
    found = measure("multiple_choice", questions((picked_long,)), bigram("flat", torch.zeros(V, V)))
    assert found["flat", "multiple_choice_raw"].value == 0.0
    assert found["flat", "multiple_choice_normalised"].value == 1.0


@pytest.mark.parametrize("delimiter", [" ", ". "])
def test_choices_are_scored_as_the_definition_says(delimiter):
    subject = random_bigram("model", 3, scale=3)
    found = measure("multiple_choice", questions(), subject, delimiter=delimiter)
    right = {"raw": 0, "normalised": 0}
    for item in QUESTIONS:
        context = encode(item.query + delimiter.rstrip())
        logp = [oracle.continuation(model_of(subject), context, encode(" " + c))[0] for c in item.choices]
        per_byte = [x / len(c.encode()) for x, c in zip(logp, item.choices, strict=True)]
        right["raw"] += oracle.argmax(logp) == item.gold
        right["normalised"] += oracle.argmax(per_byte) == item.gold
    for name, count in right.items():
        assert found["model", f"multiple_choice_{name}"].value == count / 3
    assert found["model", "multiple_choice_raw"].n == 3


def test_the_context_that_makes_the_continuation_likelier_is_chosen():
    item = ContextChoiceItem(("the a", "the b"), "z.", 1)
    data = Items("context-choices", (item, item), "made up", encode=encode)
    found = measure("multiple_choice", data, favouring("knows", b_=4.0), favouring("errs", a_=4.0))
    assert [found[name, "multiple_choice_raw"].value for name in ("knows", "errs")] == [1.0, 0.0]
    assert found["knows", "multiple_choice_normalised"].value == 1.0


def test_greedy_accuracy_needs_every_token_to_be_the_likeliest():
    items = tuple(ContinuationItem("so", word) for word in ("ab", "ac"))
    data = Items("continuations", items, "made up", encode=encode)
    subject = favouring("model", o_=5.0, _a=5.0, ab=5.0)
    found = measure("lambada", data, subject)
    assert found["model", "lambada_accuracy"].value == 0.5
    sure = -math.log(math.exp(5) / (math.exp(5) + V - 1))
    unsure = -math.log(1 / (math.exp(5) + V - 1))
    want = math.exp((5 * sure + unsure) / 6)  # " ab": three sure tokens; " ac": two, and one that is not
    assert found["model", "lambada_perplexity"].value == pytest.approx(want, rel=1e-11)
    assert found["model", "lambada_perplexity"].data["tokens"] == 6


def test_lambada_equals_its_definition():
    subject = random_bigram("model", 5, scale=2)
    items = tuple(ContinuationItem(c, w) for c, w in (("the cat sat on", "mat"), ("a", "b"), ("who is it", "me")))
    found = measure("lambada", Items("continuations", items, "made up", encode=encode), subject)
    scored = [oracle.continuation(model_of(subject), encode(i.context), encode(" " + i.continuation)) for i in items]
    tokens = sum(len(i.continuation) + 1 for i in items)
    assert found["model", "lambada_accuracy"].value == sum(hit for _, hit in scored) / 3
    want = math.exp(-sum(logp for logp, _ in scored) / tokens)
    assert found["model", "lambada_perplexity"].value == pytest.approx(want, rel=1e-11)


def merging(text: str) -> list[int]:
    """A tokenizer that joins "ab" into token 99 wherever it meets it."""
    return [99 if part == "ab" else encode(part)[0] for part in re.findall("ab|.", text)]


def test_a_token_across_the_border_belongs_to_the_continuation():
    found = request("xa", "bc", merging, bos_id=None, max_tokens=None, label="item")
    assert found.ids == (encode("x")[0], 99, encode("c")[0])
    assert found.begin == 1


def test_trailing_space_of_the_context_moves_to_the_continuation():
    found = request("so ", "a", encode, bos_id=None, max_tokens=None, label="item")
    assert (list(found.ids), found.begin) == (encode("so a"), 2)


def test_long_contexts_lose_their_left_end_and_keep_the_bos():
    found = request("abcdef ", "xy", encode, bos_id=31, max_tokens=6, label="item")
    assert (list(found.ids), found.begin) == ([31, *encode("ef xy")], 3)


@pytest.mark.parametrize(
    "context, continuation, limit, message",
    [
        ("", "a", None, "nothing comes before 'a'"),
        ("a", "", None, "no tokens of its own"),
        ("a ", "bcdef", 5, "a continuation of 6 tokens does not fit max_tokens = 5"),
    ],
)
def test_a_request_that_cannot_be_scored_is_refused(context, continuation, limit, message):
    with pytest.raises(DataError, match=message):
        request(context, continuation, encode, bos_id=None, max_tokens=limit, label="item 3")


def test_a_gold_answer_that_does_not_exist_is_refused():
    with pytest.raises(DataError, match="item 1: gold = 2 with 2 options"):
        measure("multiple_choice", questions((QUESTIONS[0], ChoiceItem("q", ("a", "b"), 2))), random_bigram("x", 0))


def test_items_without_a_tokenizer_are_refused():
    with pytest.raises(DataError, match="need a tokenizer"):
        measure("multiple_choice", Items("choices", QUESTIONS, "made up"), random_bigram("x", 0))


def letter_counts(name: str, *, noise: float = 0.0) -> Subject:
    """Embeds a text as its letter counts."""

    def embed(texts):
        counts = np.array([[t.count(letter) for letter in LETTERS] for t in texts], dtype=float)
        return counts + noise * np.sin(counts.sum(1, keepdims=True) * np.arange(1, V + 1))

    return Subject(name, "sha", embed=embed)


PAIRS = tuple(
    PairItem(a, b, s)
    for a, b, s in (
        ("a cat", "a cat", 5.0),
        ("a cat", "the cats", 3.5),
        ("a dog", "so it is", 0.5),
        ("no", "on", 3.5),
        ("x y", "z", 0.0),
    )
)


def test_similarity_is_the_rank_correlation_of_cosines():
    found = measure("sts_spearman", Items("pairs", PAIRS, "made up"), letter_counts("counts"))
    vectors = [[np.array([t.count(c) for c in LETTERS]) for t in (p.first, p.second)] for p in PAIRS]
    cosines = [float(a @ b / math.sqrt((a @ a) * (b @ b))) for a, b in vectors]
    want = stats.spearmanr(cosines, [p.score for p in PAIRS])[0]
    assert found["counts", "sts_spearman"].value == pytest.approx(want, rel=1e-12)


def test_scores_all_alike_rank_nothing():
    same = tuple(PairItem(p.first, p.second, 1.0) for p in PAIRS)
    with pytest.raises(DataError, match="5 pairs with 1 different scores"):
        measure("sts_spearman", Items("pairs", same, "made up"), letter_counts("counts"))


def test_a_zero_embedding_names_its_pair():
    pairs = (*PAIRS, PairItem("a", "", 1.0))
    with pytest.raises(EvidenceError, match="counts: the embedding of pair 5 is zero"):
        measure("sts_spearman", Items("pairs", pairs, "made up"), letter_counts("counts"))


def test_a_classifier_is_right_where_its_largest_logit_is():
    """Confidences .9 .9 .6 .6, right yes no yes yes: ECE = |1.8 - 1|/4 + |1.2 - 2|/4 = .4."""
    logits = torch.tensor([[math.log(p), math.log(1 - p)] for p in (0.9, 0.9, 0.6, 0.6)], dtype=torch.float64)
    subject = Subject("net", "sha", classify=lambda rows: logits[rows])
    data = Labelled(torch.arange(4), torch.tensor([0, 1, 0, 0]), "made up")
    found = measure("top1_accuracy", data, subject)
    assert found["net", "top1_accuracy"].value == 0.75
    assert found["net", "top1_ece"].value == pytest.approx(0.4, rel=1e-12)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_calibration_error_equals_its_definition_also_on_bin_edges(seed):
    generator = torch.Generator().manual_seed(seed)
    confidence = torch.cat([torch.rand(200, generator=generator, dtype=torch.float64), torch.tensor([0.0, 1.0, 1.0])])
    right = torch.rand(203, generator=generator) < 0.5
    from netweight.evaluate._calibration_error import bin_sums, ece_of_sums

    found = ece_of_sums(bin_sums(confidence, right).numpy().sum(0)[None])[0]
    assert found == pytest.approx(oracle.calibration_error(confidence.tolist(), right.tolist()), rel=1e-12)


def test_labels_beyond_the_classes_are_refused():
    subject = Subject("net", "sha", classify=lambda rows: torch.zeros(len(rows), 2))
    with pytest.raises(EvidenceError, match="labels from 0 to 7 with 2 classes"):
        measure("top1_accuracy", Labelled(torch.zeros(2), torch.tensor([0, 7]), "made up"), subject)


def test_a_nan_logit_names_its_input():
    subject = Subject(
        "net", "sha", classify=lambda rows: torch.where(rows[:, None] == 9, float("nan"), torch.zeros(1, 2))
    )
    data = Labelled(torch.arange(12), torch.zeros(12, dtype=torch.int64), "made up")
    with pytest.raises(EvidenceError, match="net: nan at input 9"):
        measure("top1_accuracy", data, subject)

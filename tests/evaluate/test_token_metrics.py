"""Perplexity, divergence, agreement and calibration error of text: hand-made answers, and the definition token by token."""

from __future__ import annotations

import math

import pytest
import torch

from evaluate.fakes import DOCUMENTS, LETTERS, bigram, encode, model_of, random_bigram, text
from netweight.errors import DataError, EvidenceError, SettingsError
from netweight.evaluate import Subject, _tokens, run, task
from oracles import metrics_language as oracle

V = len(LETTERS)
ROUNDING = 1e-11  # relative: float64 sums of under 200 terms


def value(claims, metric, subject):
    (found,) = [c for c in claims if c.metric == metric and c.subject == subject]
    return found.value


def measure(*metrics, subjects, documents=DOCUMENTS, reference=None, **settings):
    data = text(*documents)
    return run(subjects, reference=reference, tasks=[task(m, data, **settings) for m in metrics], resamples=100)


def test_a_model_that_knows_nothing_has_perplexity_of_its_vocabulary():
    claims = measure("perplexity", subjects=[bigram("flat", torch.zeros(V, V))])
    assert claims[0].value == pytest.approx(V, rel=ROUNDING)
    assert claims[0].data["tokens"] == sum(len(d) - 1 for d in DOCUMENTS)
    assert claims[0].n == len(DOCUMENTS)


def test_perplexity_weighs_tokens_not_documents():
    """After "a" the model gives b 1/2, after anything else 1/4 to each of four: nll = ln 2 once, 2 ln 2 three times."""
    table = torch.full((V, V), -100.0, dtype=torch.float64)
    table[:, :4] = 0.0
    table[0, :] = -100.0
    table[0, :2] = 0.0
    claims = measure("perplexity", subjects=[bigram("half", table)], documents=("ab", "bcda"))
    assert claims[0].value == pytest.approx(2 ** (7 / 4), rel=ROUNDING)


@pytest.mark.parametrize("window, stride", [(64, 64), (7, 7), (7, 3), (2, 1)])
def test_every_metric_equals_its_definition_token_by_token(window, stride):
    reference, subject = random_bigram("whole", 0), random_bigram("small", 1)
    claims = measure(
        "perplexity",
        "kl_divergence",
        "top_token_agreement",
        "ece",
        subjects=[subject, reference],
        reference="whole",
        window=window,
        stride=stride,
    )
    documents = [encode(d) for d in DOCUMENTS]
    want = oracle.perplexity(model_of(subject), documents, window, stride)
    assert value(claims, "perplexity", "small") == pytest.approx(want, rel=ROUNDING)
    want = oracle.kl_divergence(model_of(reference), model_of(subject), documents, window, stride)
    assert value(claims, "kl_divergence", "small") == pytest.approx(want, rel=ROUNDING)
    rows, other = (
        [r for ids in documents for r in oracle.token_rows(model_of(s), ids, window, stride)]
        for s in (subject, reference)
    )
    agree = [oracle.argmax(a) == oracle.argmax(b) for (a, _), (b, _) in zip(rows, other, strict=True)]
    assert value(claims, "top_token_agreement", "small") == pytest.approx(sum(agree) / len(agree), rel=ROUNDING)
    top = [(math.exp(max(row)), oracle.argmax(row) == token) for row, token in rows]
    want = oracle.calibration_error([c for c, _ in top], [r for _, r in top])
    assert value(claims, "ece", "small") == pytest.approx(want, rel=ROUNDING)


def test_divergence_goes_from_the_reference_to_the_subject():
    """Reference: 1/2, 1/2 over two tokens; subject: 3/4, 1/4. KL = ln 2 - (ln 3)/2 - ... by hand: .1438410362."""
    tables = []
    for p in (0.5, 0.75):
        row = torch.full((V,), -200.0, dtype=torch.float64)
        row[0], row[1] = math.log(p), math.log(1 - p)
        tables.append(row.expand(V, V))
    whole, small = bigram("whole", tables[0]), bigram("small", tables[1])
    claims = measure("kl_divergence", subjects=[whole, small], reference="whole")
    assert claims[0].value == pytest.approx(0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25), rel=1e-9)
    assert [c.subject for c in claims] == ["small"]


def test_a_subject_equal_to_the_reference_diverges_by_exactly_nothing():
    claims = measure(
        "kl_divergence",
        "top_token_agreement",
        subjects=[random_bigram("whole", 0), random_bigram("copy", 0)],
        reference="whole",
    )
    assert [c.value for c in claims] == [0.0, 1.0]


def test_a_small_divergence_survives_float32_logits():
    """Logits near 30 that differ by 1e-3 x: KL is variance / 2 to first order; float32 log-softmax would lose most digits."""
    generator = torch.Generator().manual_seed(0)
    table = 30 + torch.randn(V, V, generator=generator)
    shift = 1e-3 * torch.randn(V, V, generator=generator)
    whole, small = bigram("whole", table), bigram("small", table + shift)
    claims = measure("kl_divergence", subjects=[whole, small], reference="whole")
    documents = [encode(d) for d in DOCUMENTS]
    want = oracle.kl_divergence(model_of(whole), model_of(small), documents, 512, 512)
    assert want < 1e-6
    assert claims[0].value == pytest.approx(want, rel=1e-8)  # cancellation: 1e-16 * 30 / 1e-7


def test_calibration_error_of_a_sure_and_half_right_model_is_a_half():
    """Always sure of "a"; the text is "a" every second time. Confidence 1.0 belongs to the last bin, so ECE = 1 - 1/2."""
    table = torch.full((V, V), -2000.0, dtype=torch.float64)
    table[:, 0] = 0.0
    claims = measure("ece", subjects=[bigram("sure", table)], documents=("babababab",))
    assert claims[0].value == 0.5


def test_blocks_of_tokens_do_not_change_a_score(monkeypatch):
    subjects = [random_bigram("whole", 0), random_bigram("small", 1)]
    whole = measure("perplexity", "kl_divergence", "ece", subjects=subjects, reference="whole")
    monkeypatch.setattr(_tokens, "BLOCK", 3 * V)
    blocks = measure("perplexity", "kl_divergence", "ece", subjects=subjects, reference="whole")
    assert [c.value for c in blocks] == pytest.approx([c.value for c in whole], rel=ROUNDING)


def poisoned(name: str, *, at: int | None = None) -> Subject:
    """NaN logits at padding, and at the given position of the first row."""
    clean = random_bigram(name, 0)

    def logits(ids, mask):
        found = clean.skill("logits")(ids, mask).clone()
        if mask is not None:
            found[mask == 0] = float("nan")
        if at is not None:
            found[0, at, 5] = float("nan")
        return found

    return Subject(name, "sha", logits=logits)


def test_masked_positions_are_never_scored():
    clean = measure("perplexity", "ece", subjects=[random_bigram("x", 0)])
    padded = measure("perplexity", "ece", subjects=[poisoned("x")])
    assert [c.value for c in padded] == [c.value for c in clean]


def test_the_logits_of_a_windows_last_token_predict_nothing_and_are_not_read():
    last = len(DOCUMENTS[0]) - 1
    measure("perplexity", subjects=[poisoned("x", at=last)], documents=DOCUMENTS[:1])


def test_nan_names_the_subject_and_the_place():
    with pytest.raises(EvidenceError, match="small: nan at made up document 0, tokens from 0, position 3"):
        measure("perplexity", subjects=[poisoned("small", at=3)])


def test_infinite_logits_are_refused():
    table = torch.zeros(V, V)
    table[2, 7] = float("inf")
    with pytest.raises(EvidenceError, match="broken: nan at"):
        measure("perplexity", subjects=[bigram("broken", table)])


def test_a_perplexity_beyond_float64_is_refused_rather_than_reported():
    table = torch.zeros(V, V, dtype=torch.float64)
    table[:, -1] = 1e4
    with pytest.raises(EvidenceError, match="perplexity is inf"):
        measure("perplexity", subjects=[bigram("lost", table)])


def test_another_vocabulary_than_the_references_is_refused():
    with pytest.raises(EvidenceError, match=f"{V + 1} logits, the reference has {V}"):
        measure(
            "kl_divergence",
            subjects=[random_bigram("whole", 0), bigram("wide", torch.zeros(V, V + 1))],
            reference="whole",
        )


def test_tokens_beyond_the_vocabulary_are_refused():
    table = torch.zeros(V, 3)
    with pytest.raises(DataError, match="is this its tokenizer"):
        measure("perplexity", subjects=[bigram("narrow", table)])


def test_logits_of_the_wrong_shape_are_refused():
    flat = Subject("flat", "sha", logits=lambda ids, mask: torch.zeros(len(ids), V))
    with pytest.raises(EvidenceError, match="need \\(batch, tokens, vocabulary\\)"):
        measure("perplexity", subjects=[flat])


def test_divergence_without_a_reference_is_refused():
    with pytest.raises(SettingsError, match="compares with a reference"):
        measure("kl_divergence", subjects=[random_bigram("x", 0)])

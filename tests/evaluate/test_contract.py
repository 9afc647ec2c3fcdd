"""What every metric file must do, found by file name: a claim with unit and interval, and the same score at any batch size."""

from __future__ import annotations

import math

import pytest
import torch

from evaluate.fakes import DOCUMENTS, LETTERS, encode, text
from evaluate.phantoms import phantom
from netweight import registry
from netweight.evaluate import (
    ChoiceItem,
    ContextChoiceItem,
    ContinuationItem,
    Items,
    Labelled,
    Masked,
    PairItem,
    Quantity,
    Subject,
    run,
    task,
)
from netweight.evaluate._task import ROOM

transformers = pytest.importorskip("transformers")

WORDS = DOCUMENTS * 2 + ("so", "we sat", "a", "the end is not the end of it all")
# Rows of one batch are computed by other matrix shapes than alone: float64 sums of at most a few hundred terms then differ
# in their last digits, about 1e-14 relative; the logits are of order 1 and scores at most amplify this by their sums.
TOLERANCE = 1e-10
TIMED = ("latency", "energy")  # values depend on the clock, not on the batch size


@pytest.fixture(scope="module")
def subjects() -> list[Subject]:
    return [_subject("whole", 0), _subject("small", 1)]


def _subject(name: str, seed: int) -> Subject:
    """A random tiny Llama in float64, with padding masks as transformers understands them."""
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        vocab_size=len(LETTERS),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.5,
        max_position_embeddings=64,
    )
    model = transformers.LlamaForCausalLM(config).double().eval()

    def logits(ids, mask):
        return model(input_ids=ids, attention_mask=mask).logits

    def embed(texts):
        ids = [encode(t) for t in texts]
        width = max(map(len, ids))
        padded = torch.tensor([row + [0] * (width - len(row)) for row in ids])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in ids])
        hidden = model.model(input_ids=padded, attention_mask=mask).last_hidden_state
        return (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)

    weights, colours = torch.randn(6, 3, dtype=torch.float64), torch.randn(3, 1, 1, dtype=torch.float64)

    def segment(images):
        return (images * colours).sum(1, keepdim=True)

    return Subject(name, f"sha-{name}", logits, embed, lambda x: x @ weights, 1000, 2000, segment)


def data_of(kind: str):
    generator = torch.Generator().manual_seed(0)
    if kind == "text":
        return text(*WORDS)
    if kind == "labelled":
        inputs = torch.randn(20, 6, generator=generator, dtype=torch.float64)
        return Labelled(inputs, torch.randint(0, 3, (20,), generator=generator), "made up")
    if kind == "masks":
        p, masks, patients = phantom()
        noise = torch.randn(len(masks), 2, *p.shape[1:], generator=generator, dtype=torch.float64)
        return Masked(torch.cat([torch.from_numpy(p)[:, None].double(), noise], 1), masks, patients, "made up")
    items = {
        "choices": [ChoiceItem(w, ("yes", "no", "it is so"), i % 3) for i, w in enumerate(WORDS)],
        "context-choices": [ContextChoiceItem((w, w + " so"), "we go", i % 2) for i, w in enumerate(WORDS)],
        "continuations": [ContinuationItem(w, "end" if i % 2 else "a") for i, w in enumerate(WORDS)],
        "pairs": [PairItem(w, WORDS[i - 3], float(i % 5)) for i, w in enumerate(WORDS)],
    }
    return None if kind == "none" else Items(kind, items[kind], "made up", encode=encode)  # pyright: ignore[reportArgumentType]


CASES = [(name, kind) for name in registry.names(ROOM) for kind in registry.find(ROOM, name).DATA]


def claims(subjects, metric, kind, batch_size):
    fast = {"repetitions": 2, "length": 8} if metric in TIMED else {}
    fast |= {"warmup": 0} if metric == "latency" else {}
    fast |= {"seconds": 0.001} if metric == "energy" else {}
    tasks = [task(metric, data_of(kind), **fast)]
    return run(subjects, reference="whole", tasks=tasks, batch_size=batch_size, resamples=100)


@pytest.mark.parametrize("metric, kind", CASES)
def test_every_quantity_becomes_a_claim_with_unit_direction_and_interval_or_the_reason_for_none(subjects, metric, kind):
    found = claims(subjects, metric, kind, 8)
    quantities = {q.name: q for q in registry.find(ROOM, metric).QUANTITIES}
    assert {c.metric for c in found} == set(quantities)
    for claim in found:
        assert isinstance(quantities[claim.metric], Quantity)
        assert claim.unit and claim.better in ("lower", "higher", "neither")
        assert claim.value is not None or claim.provenance == "unavailable"
        if claim.low is None or claim.high is None:
            assert claim.interval.startswith("none: ")
        else:
            assert claim.value is not None and claim.low <= claim.value <= claim.high
        if claim.subject != "whole" and claim.provenance == "measured":
            assert claim.comparison is not None or claim.metric in TIMED or "difference from whole" in claim.note


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("metric, kind", [case for case in CASES if case[0] not in TIMED])
def test_batch_size_does_not_change_a_score(subjects, metric, kind, batch_size):
    for one, other in zip(claims(subjects, metric, kind, batch_size), claims(subjects, metric, kind, 8), strict=True):
        assert (one.metric, one.subject, one.n, one.data) == (other.metric, other.subject, other.n, other.data)
        for a, b in ((one.value, other.value), (one.low, other.low), (one.high, other.high)):
            assert (a is None and b is None) or math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=TOLERANCE)  # pyright: ignore[reportArgumentType]


def test_the_check_would_notice_a_padded_position_that_counts(subjects):
    """The same model without its mask, attending to padding on the left, scores otherwise at batch size 8 than at 1."""
    honest = subjects[0]
    blind = Subject("whole", "sha", logits=lambda ids, mask: honest.logits(ids.flip(1), None).flip(1))
    one, eight = (run([blind], tasks=[task("perplexity", text(*WORDS))], batch_size=b)[0].value for b in (1, 8))
    assert one is not None and eight is not None and not math.isclose(one, eight, rel_tol=TOLERANCE)


@pytest.mark.parametrize("name", registry.names(ROOM))
def test_every_metric_file_says_what_it_is(name):
    plugin = registry.find(ROOM, name)
    assert plugin.SUMMARY and plugin.__doc__ and plugin.QUANTITIES
    assert sum(hasattr(plugin, way) for way in ("measure", "score", "of_masks")) == 1
    assert all(field.description for field in plugin.Settings.model_fields.values())


def test_no_two_metrics_make_claims_of_the_same_name():
    names = [q.name for metric in registry.names(ROOM) for q in registry.find(ROOM, metric).QUANTITIES]
    assert len(set(names)) == len(names)

"""The run as a whole: lock step, shared passes, claims that can be made again, and errors before work begins."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from evaluate.fakes import DOCUMENTS, encode, random_bigram, text
from netweight import registry
from netweight.claim import Claim
from netweight.errors import DataError, SettingsError, UnknownName
from netweight.evaluate import ChoiceItem, Items, Subject, Task, run, task
from netweight.evaluate._task import ROOM


def counting(name: str, seed: int, calls: list[tuple[str, tuple[int, ...]]]) -> Subject:
    inner = random_bigram(name, seed)

    def logits(ids, mask):
        calls.append((name, tuple(ids.shape)))
        return inner.skill("logits")(ids, mask)

    return dataclasses.replace(inner, logits=logits)


def questions(n: int = 40) -> Items:
    letters = "abcdefghijklmnopqrstuvwxyz"
    items = tuple(ChoiceItem(letters[i % 26] + "q", (letters[i % 7], letters[i % 11 + 8]), i % 2) for i in range(n))
    return Items("choices", items, "made up", encode=encode)


def test_subjects_go_in_lock_step_and_the_reference_runs_once_for_all():
    calls: list[tuple[str, tuple[int, ...]]] = []
    subjects = [counting(name, seed, calls) for seed, name in enumerate(("small", "smaller", "whole"))]
    data = text(*DOCUMENTS)
    tasks = [task(metric, data) for metric in ("perplexity", "kl_divergence", "top_token_agreement", "ece")]
    run(subjects, reference="whole", tasks=tasks, batch_size=2, resamples=100)
    assert [name for name, _ in calls] == ["whole", "small", "smaller"] * 3  # 5 documents in batches of 2
    assert calls[0][1] == calls[1][1] == calls[2][1]


def test_other_window_settings_are_another_pass():
    calls: list[tuple[str, tuple[int, ...]]] = []
    data = text(DOCUMENTS[0])
    run([counting("x", 0, calls)], tasks=[task("perplexity", data), task("ece", data, window=100)], resamples=100)
    assert len(calls) == 2


def test_claims_come_by_task_then_quantity_then_subject_in_the_order_given():
    subjects = [random_bigram("small", 1), random_bigram("whole", 0)]
    claims = run(
        subjects, reference="whole", tasks=[task("multiple_choice", questions()), task("bytes")], resamples=100
    )
    found = [(c.metric, c.subject) for c in claims]
    names = ("multiple_choice_raw", "multiple_choice_normalised", "bytes_on_disk", "bytes_in_memory")
    assert found == [(metric, subject) for metric in names for subject in ("small", "whole")]


def test_a_claim_says_everything_needed_to_doubt_it_and_survives_json():
    subjects = [random_bigram("whole", 0), random_bigram("small", 1)]
    claims = run(
        subjects,
        reference="whole",
        tasks=[task("perplexity", text(*DOCUMENTS), window=8, stride=4)],
        margins={"perplexity": 3.0},
        resamples=200,
        seed=5,
        command="netweight evaluate small --against whole",
        environment={"device": "cpu"},
    )
    claim = claims[1]
    assert (claim.subject, claim.subject_sha256, claim.unit, claim.better) == ("small", "sha-small", "1", "lower")
    assert claim.settings["window"] == 8 and claim.settings["stride"] == 4
    assert claim.settings["run"] == {"batch_size": 8, "resamples": 200, "margin": 3.0, "reference": "whole"}
    assert claim.data["tokens"] == sum(len(d) - 1 for d in DOCUMENTS) and len(claim.data["sha256"]) == 64
    assert claim.seeds == {"resampling": 5} and claim.environment == {"device": "cpu"}
    assert "5 documents" in claim.note
    assert claim.comparison is not None and claim.comparison.margin == 3.0 and claim.comparison.verdict == "undecided"
    assert "5 documents are too few for a verdict" in claim.note
    assert claims[0].comparison is None
    assert Claim.from_json(claim.to_json()) == claim


def test_a_claim_recomputed_alone_from_its_settings_is_the_same_claim():
    subjects = [random_bigram("whole", 0), random_bigram("small", 1)]
    data = text(*DOCUMENTS)
    tasks = [task("multiple_choice", questions()), task("perplexity", data, window=8), task("ece", data, window=8)]
    first = run(subjects, reference="whole", tasks=tasks, resamples=200, seed=9, environment={})
    claim = next(c for c in first if c.metric == "perplexity" and c.subject == "small")
    again = run(
        subjects,
        reference=claim.settings["run"]["reference"],
        tasks=[Task.from_settings(claim.settings, data)],
        resamples=claim.settings["run"]["resamples"],
        seed=claim.seeds["resampling"],
        environment={},
    )
    assert again[1] == claim


def test_another_seed_moves_the_interval_and_not_the_value():
    a, b = (run([random_bigram("x", 0)], tasks=[task("multiple_choice", questions())], seed=s)[0] for s in (0, 1))
    c = run([random_bigram("x", 0)], tasks=[task("multiple_choice", questions())], seed=0)[0]
    assert a.value == b.value and a.n == 40
    assert (a.low, a.high) == (c.low, c.high)
    d, e = (run([random_bigram("x", 0)], tasks=[task("perplexity", text(*DOCUMENTS))], seed=s)[0] for s in (0, 1))
    assert d.value == e.value and d.low != e.low


@pytest.mark.parametrize("name", registry.names(ROOM))
def test_settings_make_the_same_task_again(name):
    kinds = registry.find(ROOM, name).DATA
    original = Task(name, registry.find(ROOM, name).Settings())
    assert kinds
    again = Task.from_settings(original.to_settings() | {"run": {"batch_size": 3}}) if "none" in kinds else None
    settings = original.to_settings()
    assert settings.pop("task") == name
    assert type(original.settings)(**settings) == original.settings
    assert again is None or again.settings == original.settings


def test_one_document_has_a_value_but_no_interval_and_no_verdict():
    subjects = [random_bigram("whole", 0), random_bigram("small", 1)]
    tasks = [task("perplexity", text(DOCUMENTS[0]))]
    claim = run(subjects, reference="whole", tasks=tasks, margins={"perplexity": 5.0})[1]
    assert claim.value is not None and claim.n == 1
    assert (claim.low, claim.high, claim.comparison) == (None, None, None)
    assert "needs at least 2" in claim.interval
    assert "unknown, not nothing" in claim.note and "difference from whole" in claim.note


def test_all_answers_right_get_the_exact_binomial_interval():
    items = tuple(ChoiceItem("q", ("a", "aaaaaaa"), 0) for _ in range(30))
    flat = Subject("flat", "sha", logits=lambda ids, mask: torch.zeros(*ids.shape, 33))
    claim = run([flat], tasks=[task("multiple_choice", Items("choices", items, "made up", encode=encode))])[0]
    assert claim.value == claim.high == 1.0
    assert claim.low == pytest.approx(0.025 ** (1 / 30)) and "Clopper-Pearson" in claim.interval


def test_a_margin_on_divergence_is_judged_against_none():
    subjects = [random_bigram("whole", 0), random_bigram("small", 1)]
    data = text(*DOCUMENTS, *DOCUMENTS)
    tasks = [task("kl_divergence", data), task("top_token_agreement", data)]
    margins = {"kl_divergence": 0.01, "top_token_agreement": 0.01}
    kl, agreement = run(subjects, reference="whole", tasks=tasks, margins=margins)
    assert kl.comparison is not None and kl.comparison.difference == kl.value
    assert kl.comparison.verdict == "inferior" and kl.comparison.p_value is None
    assert agreement.comparison is not None and agreement.value is not None
    assert agreement.comparison.difference == agreement.value - 1
    assert agreement.comparison.verdict == "inferior"


def test_progress_is_told_batch_by_batch():
    seen: list[tuple[str, int, int]] = []
    tasks = [task("perplexity", text(*DOCUMENTS))]
    run([random_bigram("x", 0)], tasks=tasks, batch_size=2, resamples=100, progress=lambda *a: seen.append(a))
    assert seen == [("perplexity on made up", i, 3) for i in (1, 2, 3)]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"reference": "whol"}, "reference 'whol' is not a subject; did you mean 'whole'"),
        ({"margins": {"perplexty": 1.0}}, "margin for 'perplexty', which no task measures; did you mean 'perplexity'"),
        ({"margins": {"perplexity": -1.0}}, "must be a positive number"),
        ({"batch_size": 0}, "batch_size = 0: must be at least 1"),
        ({"resamples": 10}, "resamples = 10: must be at least 100"),
        ({"tasks": []}, "1 subjects and 0 tasks"),
    ],
)
def test_settings_that_do_not_fit_are_refused_before_work_begins(change, message):
    arguments = {"reference": "whole", "tasks": [task("perplexity", text(*DOCUMENTS))]} | change
    with pytest.raises(SettingsError, match=message):
        run([random_bigram("whole", 0)], **arguments)


def test_subjects_that_share_a_name_are_refused():
    with pytest.raises(SettingsError, match="share a name"):
        run([random_bigram("x", 0), random_bigram("x", 1)], tasks=[task("bytes")])


def test_a_subject_without_the_skill_is_named():
    with pytest.raises(SettingsError, match="subject 'stone' has no 'logits' callable"):
        run([Subject("stone", "sha")], tasks=[task("perplexity", text(*DOCUMENTS))])


def test_an_unknown_metric_or_setting_offers_the_nearest_name():
    with pytest.raises(UnknownName, match="did you mean 'perplexity'"):
        task("perplexty", text("ab"))
    with pytest.raises(SettingsError, match="'widow' is not a setting; did you mean 'window'"):
        task("perplexity", text("ab"), widow=3)


def test_a_metric_on_the_wrong_kind_of_data_is_refused():
    with pytest.raises(DataError, match="perplexity measures on text, got choices"):
        task("perplexity", questions())
    with pytest.raises(DataError, match="got none"):
        task("perplexity")

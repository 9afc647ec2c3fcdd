"""What verify finds: changed bytes, changed numbers, numbers of something else; and what it says it did not look at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

import netweight
from netweight.claim import Claim, read_claims
from netweight.cli import main
from netweight.errors import CorruptError, EvidenceError, UnknownName
from tiny_lm import tiny_llama


def doctored(metric: str, subject: str = "int4", **changes) -> Callable[[Claim], Claim]:
    def change(claim: Claim) -> Claim:
        return replace(claim, **changes) if (claim.metric, claim.subject) == (metric, subject) else claim

    return change


def test_all_that_can_be_measured_again_holds(workplace: Path):
    checks = netweight.verify("int4", recompute=True, against="model", threads=1).checks
    status = {check.what: check.status for check in checks}
    text = "on pydoc-topics/test"
    for subject in ("int4", "model"):
        assert status[f"bytes_on_disk of {subject}"] == status[f"perplexity of {subject} {text}"] == "holds"
        assert status[f"latency of {subject} {text}"] == "not checked"
    assert status[f"kl_divergence of int4 {text}"] == "holds" and "fails" not in status.values()


def test_without_recompute_claims_are_shown_as_not_checked(workplace: Path, capsys):
    assert main(["verify", "int4"]) == 0
    shown = capsys.readouterr().out
    assert "hashes equal the manifest's" in shown and "14 layers" in shown
    assert "not checked" in shown and "--recompute" in shown


def test_without_the_original_the_comparison_is_said_to_be_unchecked(workplace: Path):
    checks = {check.what: check for check in netweight.verify("int4", recompute=True, threads=1).checks}
    ours = checks["perplexity of int4 on pydoc-topics/test"]
    assert ours.status == "holds" and "the difference was not checked" in ours.detail
    assert checks["perplexity of model on pydoc-topics/test"].status == "not checked"
    assert "--against" in checks["kl_divergence of int4 on pydoc-topics/test"].detail


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "recipe.toml", "ledger.jsonl", "tokenizer.json"])
def test_one_changed_byte_is_found(workplace: Path, file: str, capsys):
    path = workplace / "int4" / file
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert main(["verify", "int4"]) == 2
    assert f"{file} differs from the manifest" in capsys.readouterr().err


def test_a_missing_file_and_one_that_should_not_be_there_are_found(workplace: Path):
    (workplace / "int4" / "generation_config.json").unlink()
    with pytest.raises(CorruptError, match=r"generation_config\.json is missing"):
        netweight.verify("int4")
    plain = load_file(workplace / "int3" / "model.safetensors")["model.norm.weight"]
    save_file({"model.norm.weight": plain * 2}, workplace / "int3" / "zzz.safetensors")  # would win over the true one
    with pytest.raises(CorruptError, match=r"zzz\.safetensors is not in the manifest"):
        netweight.verify("int3")


def test_a_changed_manifest_leaves_no_claim_about_this_artifact(workplace: Path, capsys):
    path = workplace / "int4" / "netweight.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    assert main(["verify", "int4"]) == 4
    assert "about another artifact" in capsys.readouterr().err


def test_claims_of_another_artifact_are_refused(workplace: Path):
    (workplace / "int4" / "claims.jsonl").write_bytes((workplace / "int3" / "claims.jsonl").read_bytes())
    with pytest.raises(EvidenceError, match=r"about another artifact \(int3, hash"):
        netweight.verify("int4", recompute=True)


def test_a_doctored_value_fails_and_both_numbers_are_named(workplace: Path, change_claims, capsys):
    claims = read_claims(workplace / "int4" / "claims.jsonl")
    true = next(c.value for c in claims if (c.metric, c.subject) == ("perplexity", "int4"))
    change_claims(workplace / "int4", doctored("perplexity", value=1.25))
    assert main(["verify", "int4", "--claim", "perplexity", "--threads", "1"]) == 4
    shown = capsys.readouterr()
    assert f"perplexity of int4 on pydoc-topics/test: value: 1.25 claimed, {true:.6g} now" in shown.err
    assert "fails" in shown.out and "hashes equal the manifest's" in shown.out  # the whole table, not the failure alone


@pytest.mark.parametrize(
    "metric, change, named",
    [
        ("perplexity", {"low": 1.0}, "low"),
        ("kl_divergence", {"high": 1.0}, "high"),
        ("perplexity", {"n": 1000}, "n"),
        ("bytes_on_disk", {"value": 5}, "value"),
    ],
)
def test_a_doctored_interval_count_or_size_fails(workplace: Path, change_claims, metric, change, named):
    change_claims(workplace / "int4", doctored(metric, **change))
    with pytest.raises(EvidenceError, match=rf"{metric} of int4.*: {named}: "):
        netweight.verify("int4", claim=metric, against="model", threads=1)


def test_a_doctored_verdict_fails(workplace: Path, change_claims):
    claims = read_claims(workplace / "int4" / "claims.jsonl")
    true = next(c.comparison for c in claims if c.metric == "perplexity" and c.comparison)
    other = "inferior" if true.verdict != "inferior" else "non-inferior"
    change_claims(workplace / "int4", doctored("perplexity", comparison=replace(true, verdict=other)))
    with pytest.raises(EvidenceError, match=f"comparison verdict: {other} claimed, {true.verdict} now"):
        netweight.verify("int4", recompute=True, against="model", threads=1)


def test_a_doctored_claim_of_the_original_fails_too(workplace: Path, change_claims):
    change_claims(workplace / "int4", doctored("perplexity", subject="model", value=10_000.0))
    with pytest.raises(EvidenceError, match="perplexity of model on pydoc-topics/test: value: 10000 claimed"):
        netweight.verify("int4", recompute=True, against="model", threads=1)


def test_another_model_than_the_one_compared_with_is_refused(workplace: Path):
    tiny_llama(seed=1).save_pretrained(workplace / "stranger")
    with pytest.raises(EvidenceError, match=r"stranger has hash \w+, the claims compare with model \(hash"):
        netweight.verify("int4", recompute=True, against="stranger")


def test_a_misspelt_claim_offers_the_nearest(workplace: Path):
    with pytest.raises(UnknownName, match="did you mean 'perplexity'"):
        netweight.verify("int4", claim="perplexty")


def test_an_artifact_without_claims_is_sound_but_says_so(workplace: Path):
    (workplace / "int4" / "claims.jsonl").unlink()
    assert netweight.verify("int4").checks[-1].detail == "there are none; run netweight evaluate"
    with pytest.raises(EvidenceError, match="no claims, of 'perplexity'"):
        netweight.verify("int4", claim="perplexity")


def test_text_that_is_not_what_it_was_leaves_its_claims_unchecked(workplace: Path, change_claims):
    def elsewhere(claim: Claim) -> Claim:
        return replace(claim, data=claim.data | {"sha256": "0" * 64}) if claim.data else claim

    change_claims(workplace / "int4", elsewhere)
    checks = {c.what: c for c in netweight.verify("int4", recompute=True, against="model", threads=1).checks}
    assert "the claim was measured on 000000000000" in checks["perplexity of int4 on pydoc-topics/test"].detail
    assert checks["bytes_on_disk of int4"].status == "holds"


def test_a_moved_folder_still_verifies(workplace: Path):
    (workplace / "int4").rename(workplace / "moved")
    (workplace / "model").rename(workplace / "original")
    checks = netweight.verify("moved", claim="perplexity", against="original", threads=1).checks
    assert [check.status for check in checks] == ["holds"] * 4

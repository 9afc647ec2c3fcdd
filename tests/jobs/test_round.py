"""The whole job on a tiny language model: weigh, compress, evaluate, report, verify, run; as functions and as commands."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import netweight
from netweight.artifact import open_artifact
from netweight.claim import read_claims
from netweight.cli import main
from netweight.errors import SettingsError, UnknownName


def by_subject(claims, metric: str) -> dict:
    return {claim.subject: claim for claim in claims if claim.metric == metric}


def test_every_artifact_keeps_its_own_claims_and_the_originals(finished: Path):
    for name in ("int3", "int4"):
        claims = read_claims(finished / name / "claims.jsonl")
        assert {claim.subject for claim in claims} == {name, "model"}
        hashes = {claim.subject: claim.subject_sha256 for claim in claims}
        artifact = open_artifact(finished / name)
        assert hashes == {name: artifact.sha256, "model": artifact.manifest.model["sha256"]}


def test_artifacts_are_compared_with_the_original_in_pairs(finished: Path):
    ours = by_subject(read_claims(finished / "int4" / "claims.jsonl"), "perplexity")
    compared = ours["int4"].comparison
    assert ours["model"].comparison is None and compared.reference == "model"
    assert compared.difference == pytest.approx(ours["int4"].value - ours["model"].value, rel=1e-9)
    assert compared.low < compared.difference < compared.high
    width = ours["model"].high - ours["model"].low
    assert compared.high - compared.low < width  # pairing removes what text is hard for both


def test_fewer_bits_cost_more(finished: Path):
    three, four = (by_subject(read_claims(finished / n / "claims.jsonl"), "kl_divergence")[n] for n in ("int3", "int4"))
    assert three.low > four.high > 0


def test_the_size_claimed_is_the_size_of_the_files(finished: Path):
    claim = by_subject(read_claims(finished / "int4" / "claims.jsonl"), "bytes_on_disk")["int4"]
    assert claim.value == sum(path.stat().st_size for path in (finished / "int4").glob("*.safetensors"))


def test_what_could_not_be_measured_has_no_value_and_says_why(finished: Path):
    unavailable = [c for c in read_claims(finished / "int4" / "claims.jsonl") if c.provenance == "unavailable"]
    assert all(claim.value is None and claim.note for claim in unavailable)
    measured = [c for c in read_claims(finished / "int4" / "claims.jsonl") if c.provenance == "measured"]
    assert all(claim.value is not None for claim in measured) and len(measured) >= 10


def test_the_report_names_both_artifacts_by_their_recipes(finished: Path):
    page = (finished / "int3" / "report.html").read_text()
    assert "int3 by GPTQ" in page and "int4 by rounding" in page and "not recorded" not in page.split("<details", 1)[0]


def test_the_recorded_command_runs_as_written_and_measures_the_same(workplace: Path):
    (command,) = {claim.command for claim in read_claims(workplace / "int3" / "claims.jsonl")}
    program, *words = shlex.split(command)
    assert program == "netweight"
    before = read_claims(workplace / "int3" / "claims.jsonl")
    environment = {k: v for k, v in os.environ.items() if k != "NETWEIGHT_DATA"} | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "netweight", *words], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "non-inferior" in done.stdout or "inferior" in done.stdout
    after = read_claims(workplace / "int3" / "claims.jsonl")
    scores = [(c.subject, c.metric, c.value, c.low, c.comparison) for c in before if c.unit not in ("s", "J")]
    assert [(c.subject, c.metric, c.value, c.low, c.comparison) for c in after if c.unit not in ("s", "J")] == scores


def test_absolute_paths_are_recorded_as_seen_from_the_folder_we_are_in(workplace: Path, monkeypatch):
    (workplace / "elsewhere").mkdir()
    monkeypatch.chdir(workplace / "elsewhere")
    (claim, *_) = netweight.evaluate(
        workplace / "int4", against=str(workplace / "model"), preset="quick", threads=1, batch_size=4, out="c.jsonl"
    )
    want = "netweight evaluate ../int4 --against ../model --preset quick --batch-size 4 --threads 1 --out c.jsonl"
    assert claim.command == want


def test_all_claims_go_into_one_file_where_one_is_named(workplace: Path):
    before = (workplace / "int4" / "claims.jsonl").read_bytes()
    assert main(["evaluate", "int4", "--preset", "quick", "--out", "all.jsonl"]) == 0
    claims = read_claims(workplace / "all.jsonl")
    assert {claim.subject for claim in claims} == {"int4"} and all(claim.comparison is None for claim in claims)
    assert not by_subject(claims, "kl_divergence")  # it compares with an original, and none was named
    assert (workplace / "int4" / "claims.jsonl").read_bytes() == before


def test_a_wrong_preset_or_thread_count_is_refused_before_anything_is_loaded(workplace: Path):
    with pytest.raises(UnknownName, match="did you mean 'quick'"):
        netweight.evaluate("nowhere", preset="quik")  # pyright: ignore[reportArgumentType]
    with pytest.raises(SettingsError, match="threads = -1"):
        netweight.evaluate("nowhere", threads=-1)
    with pytest.raises(SettingsError, match="nothing to evaluate"):
        netweight.evaluate([])


def test_two_artifacts_of_one_name_are_not_confused(workplace: Path):
    (workplace / "other").mkdir()
    (workplace / "int4").rename(workplace / "other" / "int3")
    with pytest.raises(SettingsError, match="share a name"):
        netweight.evaluate(["int3", "other/int3"], preset="quick")


def test_a_live_model_is_evaluated_without_being_changed(workplace: Path, tiny_folder: Path):
    import torch
    import transformers

    live = transformers.AutoModelForCausalLM.from_pretrained(tiny_folder)
    live.train()
    before = {name: tensor.clone() for name, tensor in live.state_dict().items()}
    claims = netweight.evaluate("int4", against=live, preset="quick", threads=1)
    assert live.training and all(torch.equal(before[name], t) for name, t in live.state_dict().items())
    stored = by_subject(read_claims(workplace / "int4" / "claims.jsonl"), "perplexity")
    assert stored.keys() == {"int4", "LlamaForCausalLM"}
    assert {claim.command for claim in claims} == {""}  # no command line can name a live object


def test_a_live_model_without_tokenizer_says_how_to_give_it_one(tiny_folder: Path, monkeypatch):
    import transformers

    live = transformers.AutoModelForCausalLM.from_pretrained(tiny_folder)
    with pytest.raises(netweight.NetweightError, match=r"has no tokenizer.*tokenizer="):
        netweight.evaluate(live, preset="quick")


def test_a_model_is_given_no_more_tokens_than_it_can_read(workplace: Path, monkeypatch):
    """The tiny model reads 256 tokens, the default preset's windows have 512."""
    claims = netweight.evaluate("int4", preset="default", threads=1, out="c.jsonl")
    assert by_subject(claims, "perplexity")["int4"].settings["window"] == 256


def test_presets_use_the_further_data_that_is_at_hand(workplace: Path, monkeypatch):
    questions = [{"query": f"Is {i} odd?", "choices": ["yes", "no"], "gold": i % 2} for i in range(7)]
    folder = workplace / "data" / "zero-shot"
    folder.mkdir(parents=True)
    (folder / "piqa.jsonl").write_text("".join(json.dumps(row) + "\n" for row in questions))
    monkeypatch.setenv("NETWEIGHT_DATA", "data")  # holds one set, and neither WikiText-2 nor the others
    claims = netweight.evaluate("int4", against="model", preset="default", threads=1)
    found = by_subject(claims, "multiple_choice_raw")["int4"]
    assert found.n == 7 and found.data["source"] == "zero-shot/piqa"
    assert {claim.data["source"] for claim in claims if claim.data} == {"pydoc-topics", "zero-shot/piqa"}


def test_a_report_shows_a_renamed_artifact_with_its_claims(workplace: Path):
    (workplace / "int4").rename(workplace / "final")
    page = netweight.report("final").read_text()
    assert "perplexity" in page and "int4 by rounding" in page
    original, ours = (page.count(name) for name in (">model<", ">int4<"))
    assert ours == 0, original  # the old folder's name heads no column of its own


def test_a_report_of_claims_about_another_artifact_is_refused(workplace: Path, capsys):
    (workplace / "int4" / "claims.jsonl").write_bytes((workplace / "int3" / "claims.jsonl").read_bytes())
    assert main(["report", "int4"]) == 4
    assert "about another artifact" in capsys.readouterr().err
    (workplace / "int4" / "claims.jsonl").unlink()
    assert main(["report", "int4"]) == 4
    assert "run netweight evaluate int4 first" in capsys.readouterr().err


def test_claims_say_on_which_machine_and_with_which_seed(finished: Path):
    for claim in read_claims(finished / "int3" / "claims.jsonl"):
        assert claim.environment["versions"]["torch"] and claim.environment["threads"] == 1
        assert claim.seeds == {"resampling": 0} and claim.settings["run"]["resamples"] == 2000

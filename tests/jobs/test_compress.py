"""compress, the job: the same bytes whatever happens on the way, and nothing published that is not right."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import tiny
from netweight import artifact as artifacts
from netweight import models
from netweight.artifact._store import write_tensors
from netweight.compress import Solution
from netweight.compress import rtn as rtn_plugin
from netweight.errors import (
    CorruptError,
    DataError,
    ExistsError,
    FormatError,
    ModelError,
    NotFiniteError,
    ParityError,
    PartialError,
    ResourceError,
    SettingsError,
)
from netweight.jobs import _estimate
from netweight.jobs import compress as job

GPTQ = tiny.step("gptq", "int3-g64")
STEPS = (tiny.step("smoothquant"), GPTQ)
PARTS = 5  # stem, three blocks, tail


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.saved(tiny.llama(blocks=3), tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def reference(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("reference") / "out"
    tiny.compress(folder, out, *STEPS)
    return tiny.hashed_files(out)


def names(folder) -> set[str]:
    return {path.name for path in folder.iterdir()}


# the same bytes


@pytest.mark.parametrize("threads, memory", [(1, "lean"), (2, "lean"), (2, "ample"), (5, "ample")])
def test_the_bytes_depend_neither_on_threads_nor_on_how_passes_are_made(threads, memory, folder, reference, tmp_path):
    tiny.compress(folder, tmp_path / "out", *STEPS, threads=threads, memory=memory)
    assert tiny.hashed_files(tmp_path / "out") == reference


def test_no_hashed_file_tells_when_or_where_it_was_made(reference):
    for name, data in reference.items():
        if not name.endswith(".safetensors"):
            assert b"/tmp" not in data and time.strftime("%Y-").encode() not in data, name


class Stopped(Exception):
    pass


def stopping_after(calls: int, what: type[BaseException], seen: list[int] | None = None):
    """A progress callback that raises after so many calls; ``seen`` collects how far the work was at each."""
    seen = [] if seen is None else seen

    def progress(task: str, done: int, total: int, note: str = "") -> None:
        seen.append(done)
        if len(seen) > calls:
            raise what

    return progress


@pytest.mark.parametrize("calls", [0, 2, PARTS, PARTS + 4])
def test_an_interrupted_run_goes_on_where_it_stopped_and_ends_in_the_same_bytes(calls, folder, reference, tmp_path):
    out, done = tmp_path / "out", []
    with pytest.raises(KeyboardInterrupt):
        tiny.compress(folder, out, *STEPS, progress=stopping_after(calls, KeyboardInterrupt))
    assert not out.exists()
    tiny.compress(folder, out, *STEPS, progress=lambda what, n, total, note="": done.append((what, n)))
    walked = [n for what, n in done if what == "compress"]
    assert walked == list(range(min(calls, PARTS), PARTS + 1))[: len(walked)] and len(walked) >= PARTS - calls
    assert tiny.hashed_files(out) == reference
    assert names(tmp_path) == {"out"}


CHILD = """
    import os, signal, sys
    sys.path.insert(0, {tests!r})
    import torch
    import tiny
    left = {calls}
    def progress(what, done, total, note=""):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        print(what, done, flush=True)
    tiny.compress({folder!r}, __import__("pathlib").Path({out!r}), *{steps!r}, progress=progress, threads=2)
"""


def child(folder, out, calls: int) -> subprocess.Popen:
    tests = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    code = textwrap.dedent(CHILD).format(tests=tests, folder=str(folder), out=str(out), steps=STEPS, calls=calls)
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def test_kill_9_at_random_moments_loses_at_most_one_part_and_not_one_byte(folder, reference, tmp_path):
    """By count of finished pieces, and by the clock: while files are written, between files, in the middle of a block."""
    rng = random.Random(7)
    out = tmp_path / "out"
    for calls in (rng.randrange(0, 3), None):
        process = child(folder, out, 10**6 if calls is None else calls)
        assert process.stdout is not None
        if calls is None:
            process.stdout.readline()  # it is at work
            time.sleep(rng.uniform(0, 0.3))
            process.kill()
        process.communicate(timeout=600)
        assert process.returncode in ((-signal.SIGKILL,) if calls is not None else (-signal.SIGKILL, 0))
        if calls is not None:
            finished = len(list((tmp_path / "out.partial").glob("part-*.json")))
            assert finished >= calls and not out.exists()
            begins: list[int] = []
            with pytest.raises(Stopped):  # only to see where it begins
                tiny.compress(folder, out, *STEPS, progress=stopping_after(0, Stopped, begins))
            assert begins[0] >= finished - 1
    if not out.exists():  # the clock may have come too late
        tiny.compress(folder, out, *STEPS)
    assert tiny.hashed_files(out) == reference


def test_a_kill_before_each_file_takes_its_place_is_survived(tmp_path, monkeypatch):
    """At every write in turn the run ends with the temporary file still there, and the next run goes on from there."""
    folder, cheap = tiny.saved(tiny.llama(blocks=1), tmp_path / "model"), tiny.step("rtn", "int3-g64")
    tiny.compress(folder, tmp_path / "reference", cheap)
    out, real = tmp_path / "out", os.replace
    stops = 0

    def stop_once(source, target):
        nonlocal stops
        if str(target) not in stopped:
            stopped.add(str(target))
            stops += 1
            raise Stopped  # the temporary file stays, as after a kill
        real(source, target)

    stopped: set[str] = set()
    monkeypatch.setattr(os, "replace", stop_once)
    for _ in range(60):
        try:
            tiny.compress(folder, out, cheap)
            break
        except Stopped:
            continue
    assert stops > 3 * 3  # parts of three files each, and the files of the artifact
    assert tiny.hashed_files(out) == tiny.hashed_files(tmp_path / "reference")


def test_unfinished_work_of_another_recipe_is_not_mixed_in(folder, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        tiny.compress(folder, out, GPTQ, progress=stopping_after(2, KeyboardInterrupt))
    with pytest.raises(ExistsError, match=r"unfinished work with another recipe; remove it"):
        tiny.compress(folder, out, tiny.step("rtn", "int3-g64"))
    with pytest.raises(ExistsError, match=r"unfinished work with another calibration"):
        tiny.compress(folder, out, GPTQ, calibration=tiny.token_batches(seed=9))
    other = tiny.saved(tiny.llama(blocks=3, seed=5), tmp_path / "other")
    with pytest.raises(ExistsError, match=r"unfinished work with another model"):
        tiny.compress(other, out, GPTQ)


def test_damaged_work_files_are_an_error_that_says_what_to_remove(folder, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        tiny.compress(folder, out, GPTQ, progress=stopping_after(2, KeyboardInterrupt))
    (hidden,) = (tmp_path / "out.partial").glob("hidden-*.safetensors")
    hidden.write_bytes(hidden.read_bytes()[:-9])
    with pytest.raises(CorruptError, match=r"hidden-.*remove .*out.partial to start over"):
        tiny.compress(folder, out, GPTQ)


# what already is there


def test_an_output_folder_that_exists_is_refused_before_any_work(folder, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(ExistsError, match="already exists; choose another folder or remove it"):
        tiny.compress(folder, tmp_path / "out", GPTQ, progress=stopping_after(0, Stopped))
    assert names(tmp_path) == {"out"}


def test_a_folder_of_somebody_elses_files_is_not_touched(folder, tmp_path):
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "thesis.txt").write_text("mine")
    with pytest.raises(ExistsError, match="not netweight's"):
        tiny.compress(folder, tmp_path / "out", GPTQ)
    assert names(tmp_path / "out.partial") == {"thesis.txt"}


def test_negative_threads_are_a_settings_error(folder, tmp_path):
    with pytest.raises(SettingsError, match="threads = -1"):
        tiny.compress(folder, tmp_path / "out", GPTQ, threads=-1)


# the gate


def test_a_shard_changed_between_writing_and_reading_back_is_not_published(folder, tmp_path, monkeypatch):
    real = artifacts.assemble

    def damaged(*args, **options):
        final = real(*args, **options)
        path = final / "model.safetensors"
        data = bytearray(path.read_bytes())
        data[-5] ^= 16
        path.write_bytes(data)
        return final

    monkeypatch.setattr(artifacts, "assemble", damaged)
    with pytest.raises(ParityError, match="model.safetensors differs"):
        tiny.compress(folder, tmp_path / "out", GPTQ)
    assert not (tmp_path / "out").exists()
    monkeypatch.undo()
    tiny.compress(folder, tmp_path / "out", GPTQ)  # nothing was lost


def test_codes_that_are_not_the_simulated_ones_are_not_published(folder, tmp_path, monkeypatch):
    real = job._record

    def changed(part, assigned, layout):
        record, tensors = real(part, assigned, layout)
        for name, tensor in tensors.items():
            if name.endswith("1.mlp.up_proj.weight_packed"):
                tensor[0, 0] ^= 1
        return record, tensors

    monkeypatch.setattr(job, "_record", changed)
    with pytest.raises(ParityError, match=r"^model.layers.1.mlp.up_proj: the weight read back"):
        tiny.compress(folder, tmp_path / "out", GPTQ)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("norm", ["model.layers.2.input_layernorm.weight", "model.norm.weight"])
def test_a_tensor_that_is_not_quantized_and_differs_is_caught_by_what_the_model_computes(
    norm, folder, tmp_path, monkeypatch
):
    original = load_file(folder / "model.safetensors")[norm]
    real = job._record

    def unfolded(part, assigned, layout):
        record, tensors = real(part, assigned, layout)
        if norm in tensors:
            tensors[norm] = original if "layers" in norm else original * 2
            assert not torch.equal(tensors[norm], part.tensors[norm])
        return record, tensors

    monkeypatch.setattr(job, "_record", unfolded)
    with pytest.raises(ParityError, match="model.layers.2: what was written" if "layers" in norm else "tail: what"):
        tiny.compress(folder, tmp_path / "out", *STEPS)
    assert not (tmp_path / "out").exists()


def test_a_fallback_is_refused_after_the_fact_and_allowed_without_losing_the_work(folder, tmp_path, monkeypatch):
    real = rtn_plugin.solve

    def falling_back(weight_OI, stats, format, settings):
        return Solution(real(weight_OI, stats, format, settings).qtensor, ("was too hard",), fallback=True)

    monkeypatch.setattr(rtn_plugin, "solve", falling_back)
    step = tiny.step("rtn", "int4-g64", only=["*.0.mlp.up_proj"])
    with pytest.raises(
        PartialError, match=r"not done as the recipe asks, 1 layer: .*model.layers.0.mlp.up_proj: was too hard"
    ):
        tiny.compress(folder, tmp_path / "out", step, calibration=None)
    assert not (tmp_path / "out").exists()
    walked: list[str] = []
    made = tiny.compress(
        folder, tmp_path / "out", step, calibration=None, allow_partial=True,
        progress=lambda what, done, total, note="": walked.append(what),
    )  # fmt: skip
    assert "compress" not in walked
    assert [row.module for row in made.ledger.fallbacks()] == ["model.layers.0.mlp.up_proj"]


# the ledger and the dry run


@pytest.mark.parametrize(
    "steps", [STEPS, (tiny.step("rtn", "nvfp4", skip=["*.0.*"]), tiny.step("rtn", "int8-g64", only=["lm_head"]))]
)
def test_a_dry_run_writes_nothing_and_foretells_ledger_and_size(steps, folder, tmp_path):
    plan = tiny.compress(folder, tmp_path / "out", *steps, dry_run=True)
    assert names(tmp_path) == set()
    made = tiny.compress(folder, tmp_path / "out", *steps)
    kept = ("module", "kind", "shape", "format", "steps", "bytes_before", "bytes_after", "reason", "tied_to")
    for before, after in zip(plan.ledger, made.ledger, strict=True):
        assert [getattr(before, key) for key in kept] == [getattr(after, key) for key in kept]
    assert plan.bytes_before == made.manifest.bytes["before"]
    assert made.manifest.bytes["after"] == made.nbytes
    header = 120 * len(list(made._files))  # safetensors names each tensor, its type, shape and place
    assert plan.bytes_after <= made.nbytes <= 1.02 * plan.bytes_after + header


def test_a_dry_run_counts_half_precision_as_it_is_kept(tmp_path):
    folder = tiny.saved(tiny.llama().bfloat16(), tmp_path / "model")
    plan = tiny.compress(folder, tmp_path / "out", GPTQ, dry_run=True)
    made = tiny.compress(folder, tmp_path / "out", GPTQ)
    assert load_file(made.path / "model.safetensors")["model.embed_tokens.weight"].dtype == torch.bfloat16
    assert plan.bytes_after <= made.nbytes <= 1.02 * plan.bytes_after + 120 * len(list(made._files))


def test_a_dry_run_lists_what_is_wrong_in_place_of_raising(folder, tmp_path):
    plan = tiny.compress(folder, tmp_path / "out", tiny.step("rtn", "int4-g96"), dry_run=True)
    assert len(plan.problems) == 21 and all("does not divide" in problem for problem in plan.problems)
    with pytest.raises(FormatError, match=r"(?s)21 layers do not fit.*and 13 more"):
        tiny.compress(folder, tmp_path / "out", tiny.step("rtn", "int4-g96"))


def test_every_layer_has_a_row_that_tells_what_happened_or_why_not(folder, tmp_path):
    module = models.load(folder).module
    made = tiny.compress(folder, tmp_path / "out", tiny.step("gptq", "int3-g64", skip=["*.o_proj"]))
    rows = {row.module: row for row in made.ledger}
    assert set(rows) == {name for name, m in module.named_modules() if isinstance(m, nn.Linear | nn.Embedding)}
    for row in rows.values():
        if row.action == "quantized":
            assert 0 < row.weight_error < 1 and 0 < row.output_error < 1 and row.samples == 3 * 2 * 16
            assert row.bytes_after < row.bytes_before / 8
        else:
            assert row.reason and row.bytes_after == row.bytes_before


# estimates


def test_an_estimate_grows_with_what_it_is_asked_for(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(_estimate, "resident_bytes", lambda: 0)  # what this process holds meanwhile comes and goes

    def of(count: int, *steps, threads: int = 1, memory: str = "lean"):
        batches = tiny.token_batches(count, rows=4, length=64)
        plan = tiny.compress(
            folder, tmp_path / "out", *steps, dry_run=True, calibration=batches, threads=threads, memory=memory
        )
        return plan.estimate

    few, many = of(1, GPTQ), of(64, GPTQ)
    assert many.flops > 8 * few.flops and many.disk_bytes > few.disk_bytes and many.peak_bytes > few.peak_bytes
    assert of(64, GPTQ, memory="ample").peak_bytes > many.peak_bytes
    assert of(64, GPTQ, memory="ample").flops < many.flops
    assert of(1, *STEPS).flops > few.flops > of(1, tiny.step("rtn", "int3-g64")).flops


def test_an_estimate_of_a_small_run_is_of_its_size(folder, tmp_path):
    plan = tiny.compress(folder, tmp_path / "out", GPTQ, dry_run=True)
    made = tiny.compress(folder, tmp_path / "out", GPTQ)
    assert plan.estimate.seconds < 20 and made.run["seconds"] < 60  # some seconds, on a busy machine too
    assert plan.estimate.peak_bytes < _estimate.peak_bytes() + 2**28
    assert made.nbytes < plan.estimate.disk_bytes < 10 * made.nbytes


def test_too_little_memory_is_said_before_starting(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(_estimate, "available_bytes", lambda: 1000)
    with pytest.raises(ResourceError, match=r"of memory are needed and 0.0 GB are free; use fewer"):
        tiny.compress(folder, tmp_path / "out", GPTQ)
    assert names(tmp_path) == set()


def test_too_little_disk_is_said_before_starting(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(_estimate.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(ResourceError, match="of disk are needed"):
        tiny.compress(folder, tmp_path / "out", GPTQ)


# bad input


def test_a_full_disk_is_said_and_the_same_command_goes_on_when_there_is_space(folder, reference, tmp_path, monkeypatch):
    writes = 0

    def full(path, tensors):
        nonlocal writes
        writes += 1
        if writes == 6:
            path.write_bytes(b"half of it")
            raise OSError(errno.ENOSPC, "No space left on device")
        write_tensors(path, tensors)

    monkeypatch.setattr("netweight.artifact._store.write_tensors", full)
    with pytest.raises(ResourceError, match="the disk is full while writing .*run the same command to go on"):
        tiny.compress(folder, tmp_path / "out", *STEPS)
    assert not list(tmp_path.rglob("*.tmp"))  # what could not be finished takes no space
    monkeypatch.undo()
    tiny.compress(folder, tmp_path / "out", *STEPS)
    assert tiny.hashed_files(tmp_path / "out") == reference


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(value, live, tmp_path):
    module = tiny.llama()
    module.model.layers[1].mlp.up_proj.weight.data[3, 5] = value
    source = module if live else tiny.saved(module, tmp_path / "model")
    with pytest.raises(NotFiniteError, match=r"^model.layers.1.mlp.up_proj: weight holds 1 NaN or Inf"):
        tiny.compress(source, tmp_path / "out", GPTQ)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("method", ["gptq", "rtn"])
def test_activations_that_are_not_finite_are_refused_by_the_name_of_where_they_are(method, tmp_path):
    module = tiny.llama()
    module.model.layers[1].mlp.up_proj.weight.data.mul_(1e30)
    module.model.layers[1].mlp.gate_proj.weight.data.mul_(1e30)
    where = {"gptq": r"^model.layers.1.mlp.down_proj: its calibration inputs", "rtn": r"^model.layers.1: its output"}
    with pytest.raises(NotFiniteError, match=where[method]):
        tiny.compress(tiny.saved(module, tmp_path / "model"), tmp_path / "out", tiny.step(method, "e4m3-channel"))


def test_a_truncated_checkpoint_is_refused(tmp_path):
    folder = tiny.saved(tiny.llama(), tmp_path / "model")
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelError, match="not a whole safetensors file"):
        tiny.compress(folder, tmp_path / "out", GPTQ)


def test_text_needs_a_tokenizer(folder, tmp_path):
    with pytest.raises(ModelError, match="no tokenizer"):
        tiny.compress(folder, tmp_path / "out", GPTQ, calibration=None)
    assert names(tmp_path) == set()


def with_tokenizer(folder):
    from tokenizers import Tokenizer, pre_tokenizers
    from tokenizers.models import WordLevel

    words = {"<unk>": 0, **{f"w{n}": n for n in range(1, tiny.VOCABULARY)}}
    tokenizer = Tokenizer(WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


@pytest.mark.parametrize(
    "text, wrong", [("", "holds no text"), ("w1 w2 w3", "too short: 4 windows of 8 tokens need 32")]
)
def test_calibration_text_that_is_empty_or_too_short_is_refused(text, wrong, tmp_path):
    folder = with_tokenizer(tiny.saved(tiny.llama(), tmp_path / "model"))
    (tmp_path / "text.txt").write_text(text)
    recipe = tiny.recipe(GPTQ, calibration={"source": str(tmp_path / "text.txt"), "samples": 4, "length": 8})
    with pytest.raises(DataError, match=wrong):
        job.compress(folder, recipe, out=tmp_path / "out", threads=1)
    assert not (tmp_path / "out.partial").exists()


def test_text_goes_all_the_way_and_the_artifact_carries_tokenizer_and_recipe(tmp_path):
    folder = with_tokenizer(tiny.saved(tiny.llama(), tmp_path / "model"))
    words = random.Random(0).choices([f"w{n}" for n in range(1, tiny.VOCABULARY)], k=200)
    (tmp_path / "text.txt").write_text(" ".join(words))
    recipe = tiny.recipe(GPTQ, calibration={"source": str(tmp_path / "text.txt"), "samples": 6, "length": 16})
    made = job.compress(folder, recipe, out=tmp_path / "out", threads=1)
    assert made.manifest.calibration["tokens"] == 96
    assert {row.samples for row in made.ledger.quantized()} == {96}
    assert made.recipe.steps[0].use == "gptq" and made.recipe.sha256 == made.manifest.recipe_sha256
    assert {"tokenizer.json", "config.json", "recipe.toml", "ledger.jsonl"} <= set(made.manifest.files)


def test_empty_batches_are_refused_where_a_step_needs_them(folder, tmp_path):
    with pytest.raises(DataError, match="calibration batches are empty"):
        tiny.compress(folder, tmp_path / "out", GPTQ, calibration=[])


@pytest.mark.parametrize(("use", "more"), [("rtn", False), ("hqq", False), ("gptq", True)])
def test_batches_that_no_step_looks_at_are_not_run(use, more, folder, tmp_path, monkeypatch):
    runs: list[int] = []
    run_block = models.run_block
    monkeypatch.setattr(models, "run_block", lambda *given, **named: runs.append(1) or run_block(*given, **named))
    counts = []
    for batches in (1, 4):
        runs.clear()
        given = tiny.token_batches(batches, rows=1)
        made = tiny.compress(folder, tmp_path / str(batches), tiny.step(use, "int4-g32"), calibration=given)
        assert len(made.manifest.parts) == PARTS
        counts.append(len(runs))
    assert counts[0] > 0
    assert (counts[1] > counts[0]) == more

"""The whole job with methods that train: the same bytes after an interruption, encoders, image nets, and the tuning of a whole model."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import tiny
from netweight import models
from netweight.errors import CompressError, FormatError, PartialError
from netweight.jobs import _estimate
from netweight.losses import make

QAT = tiny.step("block_qat", "int2-g32", weight_lr=2e-3, epochs=4)
TUNE = tiny.step("e2e_scales", norms=True, epochs=6, lr=5e-3)
BATCHES = 8


def batches(count: int = BATCHES) -> list[dict[str, torch.Tensor]]:
    return tiny.token_batches(count, rows=1, length=24)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.saved(tiny.llama(blocks=2), tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def tuned(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("tuned") / "out"
    return tiny.compress(folder, out, QAT, TUNE, calibration=batches())


@pytest.fixture(scope="module")
def untuned(folder, tmp_path_factory):
    return tiny.compress(folder, tmp_path_factory.mktemp("untuned") / "out", QAT, calibration=batches())


def test_tuning_moves_scales_and_norms_and_leaves_every_code(tuned, untuned):
    moved = 0
    for name in untuned.manifest.layers:
        a, b = tuned.qtensor(name), untuned.qtensor(name)
        assert torch.equal(a.codes, b.codes) and torch.equal(a.zero, b.zero)
        moved += int((a.scale != b.scale).sum())
    assert moved > 100
    norm = "model.layers.0.input_layernorm.weight"
    assert not torch.equal(tuned.tensor(norm), untuned.tensor(norm))
    assert torch.equal(tuned.tensor("model.embed_tokens.weight"), untuned.tensor("model.embed_tokens.weight"))
    row = next(row for row in tuned.ledger if row.action == "quantized")
    assert row.steps == ("block_qat", "e2e_scales") and any("kl" in note for note in row.notes)


def test_tuning_leaves_what_it_does_not_touch_in_the_16_bits_it_was_stored_in(tmp_path):
    folder = tiny.saved(tiny.llama(blocks=1).to(torch.bfloat16), tmp_path / "model")
    tuned = tiny.compress(folder, tmp_path / "out", tiny.step("rtn", "int4-g32"), tiny.step("e2e_scales", epochs=1))
    assert {tuned.tensor(name).dtype for name in tuned.plain_names()} == {torch.bfloat16}


def test_tuning_brings_the_model_closer_to_the_original_on_text_it_was_not_tuned_on(folder, tuned, untuned):
    loss, fresh = make("kl"), tiny.token_batches(6, rows=1, length=24, seed=99)
    original = models.load(folder)
    models.materialize(original, "")
    found = []
    for artifact in (untuned, tuned):
        module = models.copied(original).module
        other = models.load(folder)
        models.materialize(other, "")
        module = other.module
        for name in artifact.manifest.layers:
            models.set_matrix(module.get_submodule(name), artifact.qtensor(name).decode())
        for name, value in module.named_parameters():
            if "norm" in name:
                value.data.copy_(artifact.tensor(name))
        with torch.no_grad():
            distance = [
                loss(module(**b).logits, original.module(**b).logits, torch.Generator()).parts["kl"] for b in fresh
            ]
        found.append(sum(distance) / len(distance))
    assert found[1] < found[0]


class Stopped(Exception):
    pass


@pytest.mark.parametrize("at", [("compress", 1), ("compress", 3), ("train", 2), ("check the file's layers", 3)])
def test_an_interrupted_run_ends_in_the_same_bytes(at, folder, tuned, tmp_path):
    def progress(what: str, done: int, total: int, note: str = "") -> None:
        if (what, done) == at:
            raise Stopped

    with pytest.raises(Stopped):
        tiny.compress(folder, tmp_path / "out", QAT, TUNE, calibration=batches(), progress=progress)
    assert not (tmp_path / "out").exists()
    tiny.compress(folder, tmp_path / "out", QAT, TUNE, calibration=batches())
    assert tiny.hashed_files(tmp_path / "out") == tiny.hashed_files(tuned.path)


@pytest.mark.parametrize("threads, memory", [(2, "lean"), (3, "ample")])
def test_the_bytes_depend_neither_on_threads_nor_on_where_states_are_kept(threads, memory, folder, tuned, tmp_path):
    out = tmp_path / "out"
    tiny.compress(folder, out, QAT, TUNE, calibration=batches(), threads=threads, memory=memory)
    assert tiny.hashed_files(out) == tiny.hashed_files(tuned.path)


def test_a_live_module_is_tuned_against_what_it_was_and_stays_as_it_is(tmp_path):
    module = tiny.llama(blocks=1)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    artifact = tiny.compress(module, tmp_path / "out", QAT, TUNE, calibration=batches())
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    note = next(note for row in artifact.ledger for note in row.notes if note.startswith("kl"))
    first, last = note.removeprefix("kl ").split(" on ")[0].split(" to ")
    assert 0 < float(last) < float(first)


def test_dropout_of_a_live_module_in_training_is_off_while_it_is_tuned(tmp_path):
    notes = []
    for training in (False, True):
        module = tiny.gpt2().train(training)
        artifact = tiny.compress(module, tmp_path / f"out{training}", QAT, TUNE, calibration=batches())
        notes.append(artifact.ledger.rows[0].notes)
        assert module.training == training
    assert notes[0] == notes[1]
    assert tiny.hashed_files(tmp_path / "outFalse") == tiny.hashed_files(tmp_path / "outTrue")


def _nets() -> dict[str, tuple[nn.Module, list]]:
    g = torch.Generator().manual_seed(0)
    conv = nn.Sequential(
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(16, 16, 2, stride=2),
        nn.ReLU(),
        nn.Conv2d(16, 8, 1),
    )
    for parameter in conv.parameters():
        nn.init.normal_(parameter, std=0.2, generator=g)
    images = [torch.randn(2, 8, 12, 12, generator=g) for _ in range(BATCHES)]
    return {"encoder": (tiny.bert(), batches()), "image net": (conv.eval(), images)}


@pytest.mark.parametrize("net", ["encoder", "image net"])
@pytest.mark.parametrize("method", ["omniquant", "tesseraq", "signround", "block_qat"])
def test_encoders_and_image_nets_are_trained_too(net, method, tmp_path):
    module, calibration = _nets()[net]
    few = {"iterations": 10} if method in ("tesseraq", "signround") else {"epochs": 3}
    few |= {"clip_lr": 0.02, "epochs": 6} if method == "omniquant" else {}
    few |= {"start": "minmax", "held_out": 0.0}  # so that there is something to gain, and training must gain it
    artifact = tiny.compress(
        module, tmp_path / "out", tiny.step(method, "int3-channel", **few), calibration=calibration
    )
    rows = [row for row in artifact.ledger if row.action == "quantized"]
    assert len(rows) >= 3
    for row in rows:
        first, last = (
            next(n for n in row.notes if n.startswith("mse")).removeprefix("mse ").split(" on ")[0].split(" to ")
        )
        assert float(last) < float(first)


def test_two_methods_may_share_a_block(folder, tmp_path):
    steps = (
        tiny.step("block_qat", "int2-g32", only=["*self_attn*"], epochs=2),
        tiny.step("tesseraq", "int3-g32", only=["*mlp.up_proj", "*mlp.gate_proj"], iterations=5),
        tiny.step("rtn", "int4-g32", only=["*mlp.down_proj"]),
    )
    artifact = tiny.compress(folder, tmp_path / "out", *steps, calibration=batches())
    used = {(row.steps, row.format) for row in artifact.ledger if row.action == "quantized"}
    assert used == {(("block_qat",), "int2-g32"), (("tesseraq",), "int3-g32"), (("rtn",), "int4-g32")}


def test_channel_scales_are_learned_and_the_original_is_matched_on_quantized_states(folder, tmp_path):
    step = tiny.step("omniquant", "int3-g32", let=True, let_lr=0.01, epochs=4, aug_loss=True)
    artifact = tiny.compress(folder, tmp_path / "out", step, calibration=batches())
    norm = "model.layers.0.input_layernorm.weight"
    original = models.load(folder)
    models.materialize(original, "")
    assert not torch.equal(artifact.tensor(norm), original.module.get_parameter(norm))
    # what the norm gave away the columns took up, and the error stated is against that
    columns = original.module.get_parameter(norm) / artifact.tensor(norm)
    folded = tiny.matrix(original.module, "model.layers.0.self_attn.k_proj") * columns
    stored = artifact.qtensor("model.layers.0.self_attn.k_proj").decode()
    row = next(row for row in artifact.ledger if row.module == "model.layers.0.self_attn.k_proj")
    assert row.weight_error == pytest.approx(float((stored - folded).norm() / folded.norm()), rel=1e-3)


def test_a_head_cannot_be_trained_with_a_block(tmp_path):
    step = tiny.step("block_qat", "int2-g32", only=["lm_head"])
    with pytest.raises(PartialError, match="trains blocks"):
        tiny.compress(tiny.llama(tied=False), tmp_path / "out", step)


def test_a_format_a_method_cannot_take_is_refused_before_anything_runs(folder, tmp_path):
    with pytest.raises(FormatError, match="mse_clip"):
        tiny.compress(folder, tmp_path / "out", tiny.step("omniquant", "nf4"))


def test_tuning_needs_something_rounded_before_it(folder, tmp_path):
    with pytest.raises(PartialError, match="e2e_scales"):
        tiny.compress(folder, tmp_path / "out", tiny.step("e2e_scales"))


def test_powers_of_two_cannot_be_tuned(folder, tmp_path):
    with pytest.raises((CompressError, FormatError), match="powers of two"):
        tiny.compress(
            folder, tmp_path / "out", tiny.step("rtn", "mxfp4"), tiny.step("e2e_scales"), calibration=batches()
        )


def test_what_cannot_be_distilled_is_refused_with_a_way_out(tmp_path):
    with pytest.raises(CompressError, match='use loss = "mse"'):
        tiny.compress(
            tiny.bert(), tmp_path / "out", tiny.step("rtn", "int4-g32"), tiny.step("e2e_scales"), calibration=batches()
        )


def test_an_encoder_is_tuned_on_its_states(tmp_path):
    steps = (tiny.step("rtn", "int2-g32"), tiny.step("e2e_scales", loss="mse", lr=2e-2, epochs=8))
    artifact = tiny.compress(tiny.bert(), tmp_path / "out", *steps, calibration=batches())
    note = next(note for row in artifact.ledger for note in row.notes if note.startswith("mse"))
    first, last = note.removeprefix("mse ").split(" on ")[0].split(" to ")
    assert float(last) < float(first)


def test_an_embedding_is_rounded_but_not_tuned(folder, tmp_path):
    steps = (QAT, tiny.step("rtn", "int8-g32", only=["model.embed_tokens"]), TUNE)
    artifact = tiny.compress(folder, tmp_path / "out", *steps, calibration=batches())
    row = next(row for row in artifact.ledger if row.module == "model.embed_tokens")
    assert row.steps == ("rtn",)


def test_a_dry_run_counts_the_steps_of_training(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(_estimate, "resident_bytes", lambda: 0)  # what this process holds meanwhile comes and goes
    one, two = (
        tiny.compress(folder, tmp_path / "out", {**QAT, "epochs": epochs}, calibration=batches(), dry_run=True).estimate
        for epochs in (1, 9)
    )
    both = tiny.compress(folder, tmp_path / "out", QAT, TUNE, calibration=batches(), dry_run=True).estimate
    assert two.flops > 3 * one.flops
    assert both.flops > one.flops and both.peak_bytes >= one.peak_bytes

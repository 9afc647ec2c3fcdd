"""Weights and activations rounded together: what is simulated, stored, read back and run is one function."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

import tiny
from netweight import models, runtime
from netweight.errors import PartialError, SettingsError, UnknownName
from netweight.jobs import _parity
from netweight.jobs.compress import compress as job
from netweight.runtime import NativeDecoder, PackedLinear, kernels

W4A8 = tiny.step("rtn", "int4-sym-g32", activations="int8-token")
W4A4 = tiny.step("rtn", "int4-sym-g32", activations="int4-token")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.saved(tiny.llama(blocks=2, kv_heads=2), tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def made(folder, tmp_path_factory):
    return {
        name: tiny.compress(folder, tmp_path_factory.mktemp(name) / "out", step)
        for name, step in (("a8", W4A8), ("a4", W4A4))
    }


def rounded_by_hand(module: nn.Module, artifact, levels: int) -> nn.Module:
    """The original with decoded weights and plain numpy between a layer and its input."""
    for name in artifact.manifest.layers:
        layer = module.get_submodule(name)
        models.set_matrix(layer, artifact.qtensor(name).decode())

        def hook(layer, args):
            x = args[0].numpy()
            most = np.abs(x).max(-1, keepdims=True)
            return torch.from_numpy(np.rint(x * (np.float32(levels) / most)) * (most / np.float32(levels)))

        layer.register_forward_pre_hook(hook)
    return module


def logits(module: nn.Module, ids_BT: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return module(ids_BT).logits


@pytest.mark.parametrize("which, levels", [("a8", 127), ("a4", 7)])
def test_what_is_loaded_rounds_what_every_layer_reads(which, levels, folder, made):
    artifact, ids = made[which], tiny.token_batches(1, length=20, seed=5)[0]["input_ids"]
    want = logits(rounded_by_hand(tiny.llama(blocks=2, kv_heads=2), artifact, levels), ids)
    plain = logits(runtime.load(artifact, kernels="off").module, ids)
    torch.testing.assert_close(plain, want, rtol=1e-4, atol=1e-4 * float(want.abs().max()))
    without = tiny.llama(blocks=2, kv_heads=2)
    for name in artifact.manifest.layers:
        models.set_matrix(without.get_submodule(name), artifact.qtensor(name).decode())
    assert (logits(without, ids) - want).abs().max() > 10 * (plain - want).abs().max(), "rounding must matter"


@pytest.mark.parametrize("choice", ["auto", "exact"])
@pytest.mark.parametrize("which", ["a8", "a4"])
def test_packed_kernels_round_exactly_as_simulated(which, choice, made):
    if kernels.missing():
        pytest.skip("no compiled kernels")
    slow = runtime.load(made[which], kernels="off")
    fast = runtime.load(made[which], kernels=choice)
    packed = [part for part in fast.module.modules() if isinstance(part, PackedLinear)]
    assert len(packed) == len(made[which].manifest.layers)
    assert all("inputs rounded to" in path for path in fast.paths.values())
    # a code may flip where float32 sums of another order meet a tie, so layers are compared on one input each
    for name in made[which].manifest.layers:
        x = torch.randn(
            7, models.matrix_of(slow.module.get_submodule(name)).shape[1], generator=torch.Generator().manual_seed(1)
        )
        with torch.no_grad():
            want, got = slow.module.get_submodule(name)(x), fast.module.get_submodule(name)(x)
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5 * float(want.abs().max()))


def test_the_native_loop_rounds_as_well(made):
    if kernels.missing():
        pytest.skip("no compiled kernels")
    ids = tiny.token_batches(1, rows=1, length=20, seed=5)[0]["input_ids"]
    for which in ("a8", "a4"):
        loaded = runtime.load(made[which])
        decoder = NativeDecoder(loaded.model)
        got = decoder.forward((decoder.session(),), (ids[0],), all_positions=True)
        want = logits(runtime.load(made[which], kernels="off").module, ids)[0]
        without = logits(_unrounded(made[which]), ids)[0]
        # not closer: where sums in another order meet a tie, a code flips
        assert (got - want).norm() < 0.5 * (without - want).norm()


def _unrounded(artifact) -> nn.Module:
    module = runtime.load(artifact, kernels="off").module
    for part in module.modules():
        models.round_inputs(part, "")
    return module


def test_the_manifest_and_the_ledger_say_so(made, folder, tmp_path):
    artifact = made["a8"]
    assert {row.activations for row in artifact.manifest.layers.values()} == {"int8-token"}
    assert json.loads((artifact.path / "netweight.json").read_text())["schema"] == 2
    rows = [row for row in artifact.ledger if row.action == "quantized"]
    assert rows and all("its input is rounded to int8-token" in row.notes for row in rows)
    assert 'activations = "int8-token"' in (artifact.path / "recipe.toml").read_text()
    plain = tiny.compress(folder, tmp_path / "plain", tiny.step("rtn", "int4-sym-g32"))
    table = json.loads((plain.path / "netweight.json").read_text())
    assert table["schema"] == 1 and "activations" not in next(iter(table["layers"].values()))


def test_parity_fails_when_the_manifest_forgets_to_round(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(_parity.Artifact, "with_rounded_inputs", lambda self, model: model)
    with pytest.raises(_parity.ParityError):
        tiny.compress(folder, tmp_path / "out", W4A4)


@pytest.mark.parametrize("method", ["gptq", "awq"])
def test_the_bytes_do_not_depend_on_where_batches_wait(method, folder, tmp_path):
    step = tiny.step(method, "int4-sym-g32", activations="int4-token")
    found = [tiny.compress(folder, tmp_path / memory, step, memory=memory) for memory in ("lean", "ample")]
    assert tiny.hashed_files(found[0].path) == tiny.hashed_files(found[1].path)


@pytest.mark.parametrize("method", ["gptq", "omniquant", "signround", "tesseraq", "block_qat"])
def test_methods_see_rounded_inputs_and_end_in_the_same_bytes(method, folder, tmp_path):
    few = {"iterations": 6} if method in ("tesseraq", "signround") else {} if method == "gptq" else {"epochs": 2}
    step = tiny.step(method, "int4-sym-g32", activations="int4-token", **few)
    one = tiny.compress(folder, tmp_path / "one", step, calibration=tiny.token_batches(6, rows=1))
    two = tiny.compress(folder, tmp_path / "two", step, calibration=tiny.token_batches(6, rows=1), threads=2)
    assert tiny.hashed_files(one.path) == tiny.hashed_files(two.path)
    plain = {**step}
    del plain["activations"]
    other = tiny.compress(folder, tmp_path / "other", plain, calibration=tiny.token_batches(6, rows=1))
    last = "model.layers.1.mlp.down_proj"
    assert not torch.equal(one.qtensor(last).codes, other.qtensor(last).codes)


def test_a_whole_model_is_tuned_with_rounded_inputs(folder, tmp_path):
    tuned = tiny.compress(
        folder,
        tmp_path / "out",
        tiny.step("rtn", "int2-g32", activations="int8-token"),
        tiny.step("e2e_scales", epochs=6, lr=5e-3, norms=True),
        calibration=tiny.token_batches(8, rows=1, length=24),
    )
    note = next(note for row in tuned.ledger for note in row.notes if note.startswith("kl"))
    first, last = note.removeprefix("kl ").split(" on ")[0].split(" to ")
    assert float(last) < float(first)
    assert {row.activations for row in tuned.manifest.layers.values()} == {"int8-token"}


class _Crossed(nn.Module):
    """Three blocks of which the last reads what the first two gave."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.a, self.b = nn.Sequential(nn.Linear(32, 64), nn.ReLU()), nn.Sequential(nn.Linear(64, 64), nn.ReLU())
            self.c = nn.Sequential(nn.Linear(128, 8))

    def forward(self, x):
        first = self.a(x)
        return self.c(torch.cat([first, self.b(first)], -1))


@pytest.mark.parametrize("stop", [1, 2])
def test_blocks_that_a_recipe_names_round_too_and_are_resumed(stop, tmp_path):
    batches = [torch.randn(16, 32, generator=torch.Generator().manual_seed(n)) for n in range(4)]
    recipe = {"blocks": ["a", "b", "c"], "step": [tiny.step("gptq", "int4-sym-g32", activations="int4-token")]}
    options = {"calibration": batches, "threads": 1}
    whole = job(_Crossed(), recipe, out=tmp_path / "whole", **options)

    def progress(what, done, total, note=""):
        if (what, done) == ("compress", stop):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        job(_Crossed(), recipe, out=tmp_path / "again", progress=progress, **options)
    job(_Crossed(), recipe, out=tmp_path / "again", **options)
    assert tiny.hashed_files(tmp_path / "again") == tiny.hashed_files(whole.path)
    loaded = runtime.load(whole, into=_Crossed(), kernels="off").module
    want = rounded_by_hand(_Crossed(), whole, 7)
    with torch.no_grad():
        torch.testing.assert_close(loaded(batches[0]), want(batches[0]), rtol=1e-5, atol=1e-6)


def test_a_live_module_keeps_its_inputs(tmp_path):
    module = tiny.llama(blocks=1)
    tiny.compress(module, tmp_path / "out", W4A4)
    assert not any(models.rounded_inputs(part) for part in module.modules())


def test_some_layers_may_be_left_at_full_inputs(folder, tmp_path):
    steps = (tiny.step("rtn", "int4-sym-g32"), {**W4A4, "only": ["*gate_proj", "*q_proj", "*down_proj"]})
    artifact = tiny.compress(folder, tmp_path / "out", *steps)
    found = {name: row.activations for name, row in artifact.manifest.layers.items()}
    assert {name.rpartition(".")[2] for name, value in found.items() if value} == {"gate_proj", "q_proj", "down_proj"}
    ids = tiny.token_batches(1, rows=1, length=12)[0]["input_ids"]
    decoder = NativeDecoder(runtime.load(artifact, kernels="exact").model)
    got = decoder.forward((decoder.session(),), (ids[0],), all_positions=True)
    want = logits(runtime.load(artifact, kernels="off").module, ids)[0]
    assert (got - want).norm() < 0.5 * (logits(_unrounded(artifact), ids)[0] - want).norm()


def test_what_cannot_be_rounded_is_refused(tmp_path, folder):
    with pytest.raises(UnknownName, match="int8-token"):
        tiny.compress(folder, tmp_path / "out", tiny.step("rtn", "int4-g32", activations="int8"))
    with pytest.raises(SettingsError, match="activations"):
        tiny.compress(folder, tmp_path / "out", tiny.step("awq", "int4-g32", activations=8))
    with pytest.raises(SettingsError, match="activations"):
        tiny.compress(folder, tmp_path / "out", tiny.step("smoothquant", activations="int8-token"), W4A8)
    conv = nn.Sequential(nn.Conv2d(4, 8, 3), nn.ReLU())
    with pytest.raises(PartialError, match="without activations"):
        tiny.compress(
            conv,
            tmp_path / "out",
            tiny.step("rtn", "int8-channel", activations="int8-token"),
            calibration=[torch.randn(1, 4, 8, 8)],
        )

"""An artifact that is not whole or not ours is never used, and the error says which file and why."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

import tiny
from netweight import models, runtime
from netweight.artifact import open_artifact
from netweight.errors import ArtifactError, CorruptError, FormatError
from netweight.jobs.verify import verify


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    source = tiny.saved(tiny.llama(blocks=1), folder / "model")
    return tiny.compress(source, folder / "out", tiny.step("rtn", "int4-g64"), calibration=None).path


@pytest.fixture
def folder(made, tmp_path):
    """A copy to damage."""
    return shutil.copytree(made, tmp_path / "artifact")


def test_a_whole_artifact_is_loaded_and_verified(folder):
    assert runtime.load(folder).module is not None
    assert not verify(folder, threads=1).failures()


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "recipe.toml", "ledger.jsonl"])
def test_one_changed_byte_in_any_file_is_found(name, folder):
    data = bytearray((folder / name).read_bytes())
    data[-3] ^= 1
    (folder / name).write_bytes(data)
    for use in (runtime.load, lambda f: verify(f, threads=1)):
        with pytest.raises(CorruptError, match=f"{name} differs from the manifest"):
            use(folder)


def test_a_truncated_file_of_weights_is_found_with_and_without_hashing(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(CorruptError, match=r"model.safetensors differs"):
        runtime.load(folder)
    with pytest.raises(CorruptError, match=r"cannot read .*model.safetensors"):
        runtime.load(folder, check=False)


@pytest.mark.parametrize("name", ["model.safetensors", "ledger.jsonl"])
def test_a_missing_file_is_found(name, folder):
    (folder / name).unlink()
    with pytest.raises(CorruptError, match=f"{name} is missing"):
        runtime.load(folder)


def test_weights_that_the_manifest_does_not_know_are_found_and_never_read(folder):
    tensors = load_file(folder / "model.safetensors")
    save_file({"model.norm.weight": tensors["model.norm.weight"] * 2}, folder / "zzz.safetensors")
    with pytest.raises(CorruptError, match="zzz.safetensors is not in the manifest"):
        runtime.load(folder)
    module = runtime.load(folder, check=False).module
    assert torch.equal(module.model.norm.weight, tensors["model.norm.weight"])


def test_notes_beside_an_artifact_do_no_harm(folder):
    (folder / "README.md").write_text("made on a rainy day")
    assert runtime.load(folder).module is not None


def test_a_folder_without_a_manifest_is_no_artifact(folder):
    (folder / "netweight.json").unlink()
    with pytest.raises(ArtifactError, match="is not a netweight artifact: it has no netweight.json"):
        open_artifact(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"schema": 1, "layers": []}', '{"schema": "1"}'])
def test_a_damaged_manifest_is_said_to_be(text, folder):
    (folder / "netweight.json").write_text(text)
    with pytest.raises(CorruptError, match="netweight.json is damaged"):
        open_artifact(folder)


def test_a_manifest_from_the_future_asks_for_an_upgrade(folder):
    values = json.loads((folder / "netweight.json").read_text())
    (folder / "netweight.json").write_text(json.dumps(values | {"schema": 99, "new": "things"}))
    with pytest.raises(ArtifactError, match="has schema 99, .*upgrade it"):
        open_artifact(folder)


def test_a_decoded_weight_that_is_not_the_simulated_one_is_found_even_under_new_hashes(folder):
    opened = open_artifact(folder)
    layer, record = next(iter(opened.manifest.layers.items()))
    other = replace(opened.manifest, layers={**opened.manifest.layers, layer: replace(record, sha256="0" * 64)})
    (folder / "netweight.json").write_text(other.to_json())
    with pytest.raises(CorruptError, match=f"{layer}: the weight read back"):
        verify(folder, threads=1)


def test_a_tensor_of_a_layer_that_is_gone_or_misshapen_is_named(folder):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    name = "model.layers.0.mlp.up_proj.weight_scale"
    save_file({k: v for k, v in tensors.items() if k != name}, path)
    with pytest.raises(CorruptError, match=f"{name} is missing"):
        runtime.load(folder, check=False)
    save_file(tensors | {name: tensors[name][:-1].clone()}, path)
    with pytest.raises(FormatError, match="scale of a 128 x 64 matrix must be"):
        runtime.load(folder, check=False)


def test_a_plain_modules_artifact_asks_for_the_module(tmp_path):
    made = tiny.compress(torch.nn.Linear(16, 8), tmp_path / "out", tiny.step("rtn", "int4-g8"), calibration=None)
    with pytest.raises(ArtifactError, match=r"pass the module's architecture: load\(folder, into=module\)"):
        runtime.load(made)


class Packed:
    """A source that holds every matrix packed, as GGUF files do: 18 bytes for 32 weights."""

    def __init__(self, source) -> None:
        self._source, self.files = source, source.files

    def __getattr__(self, name):
        return getattr(self._source, name)

    def stored_as(self, name: str) -> str:
        return "Q4_0" if len(self._source.shape(name)) == 2 else "F32"

    def nbytes(self, name: str) -> int:
        count = torch.Size(self._source.shape(name)).numel()
        return count * 18 // 32 if len(self._source.shape(name)) == 2 else count * 4


def test_what_was_packed_and_is_left_alone_is_counted_as_it_is_written(tmp_path):
    model = models.load(tiny.saved(tiny.llama(), tmp_path / "model"))
    model = replace(model, weights=Packed(model.weights))
    step = tiny.step("rtn", "int4-g64", skip=["*.up_proj"])
    plan = tiny.compress(model, tmp_path / "out", step, calibration=None, dry_run=True)
    made = tiny.compress(model, tmp_path / "out", step, calibration=None)
    row = next(row for row in made.ledger if row.module == "model.embed_tokens")
    assert (row.bytes_before, row.bytes_after) == (128 * 64 * 18 // 32, 128 * 64 * 4)
    assert plan.bytes_after <= made.nbytes <= 1.02 * plan.bytes_after + 120 * len(list(made._files))


def test_tensors_lie_where_torch_would_put_them(folder):
    path = folder / "model.safetensors"
    tensors = load_file(path) | {f"aaa.{size}": torch.arange(size, dtype=torch.float32) for size in (5, 3, 17)}
    save_file(tensors, path)
    artifact = open_artifact(folder)
    for name, wanted in tensors.items():
        found = artifact.tensor(name)
        assert torch.equal(found, wanted) and found.data_ptr() % 64 == 0, name

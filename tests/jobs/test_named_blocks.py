"""Plain modules in blocks that a recipe names: what each block is fed and trained against, and the same bytes in any case."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import nets
import tiny
from netweight import formats, models
from netweight.errors import CompressError, DataError, ModelError, PartialError, SettingsError
from netweight.jobs.compress import compress as job
from netweight.models import cut

NAMED = ["down.?", "joins.*"]
QAT = tiny.step("block_qat", "int3-channel", start="minmax", weight_lr=3e-3, epochs=2, held_out=0.0, skip=["aside"])


def compress(out, *steps, blocks=NAMED, module=None, **options):
    options = {"threads": 1, "calibration": nets.images(), **options}
    module = nets.filled(nets.UNet()) if module is None else module
    return job(module, {"blocks": blocks, "step": list(steps)}, out=out, **options)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return compress(tmp_path_factory.mktemp("trained") / "out", QAT, tiny.step("rtn", "int8-channel", only=["aside"]))


def test_blocks_come_as_they_run_and_other_layers_are_blocks_of_their_own():
    found = cut(models.load(nets.filled(nets.UNet())), NAMED, nets.images(1)[0])
    assert models.blocks(found) == nets.UNET_BLOCKS
    layers = models.layers(found)
    assert layers["down.1.conv2"].block == "down.1" and layers["last"].block == "last" and layers["aside"].block is None


def test_of_a_module_and_those_inside_it_the_outer_one_is_the_block():
    found = cut(models.load(nets.filled(nets.UNet())), ["down*", "joins.0.pair"], nets.images(1)[0])
    assert models.blocks(found) == ("first", "down.0", "down.1", "down.2", "joins.1.up", "joins.1.pair.conv1",
                                    "joins.1.pair.conv2", "joins.0.up", "joins.0.pair", "last")  # fmt: skip


def decoded_into(module: nn.Module, artifact, layers) -> nn.Module:
    for name in layers:
        models.set_matrix(module.get_submodule(name), artifact.qtensor(name).decode())
    return module


def output_of(module: nn.Module, block: str, image: Tensor) -> Tensor:
    """What the block gives in a plain run of the module."""
    found = []
    handle = module.get_submodule(block).register_forward_hook(lambda m, args, output: found.append(output.clone()))
    with torch.no_grad():
        module(image.clone())
    handle.remove()
    return found[0]


@pytest.mark.parametrize("block", nets.UNET_BLOCKS)
def test_a_block_is_trained_on_what_the_rounded_blocks_feed_it_against_its_original(block, trained):
    """The losses in the ledger, from plain runs of three modules."""
    original = nets.filled(nets.UNet())
    done = nets.UNET_BLOCKS[: nets.UNET_BLOCKS.index(block)]
    layers = [name for name in trained.manifest.layers if name != "aside"]
    inside = [name for name in layers if name == block or name.startswith(f"{block}.")]
    before = [name for name in layers if any(name == b or name.startswith(f"{b}.") for b in done)]
    begun = decoded_into(copy.deepcopy(original), trained, before)
    for name in inside:
        weight_OI = models.matrix_of(original.get_submodule(name))
        rounded = formats.quantize(weight_OI, formats.get("int3-channel")).decode()
        models.set_matrix(begun.get_submodule(name), rounded)
    ended = decoded_into(copy.deepcopy(original), trained, [*before, *inside])
    losses = []
    for module in (begun, ended):
        pairs = [(output_of(module, block, x), output_of(original, block, x)) for x in nets.images()]
        losses.append(sum(float((a - b).square().mean()) for a, b in pairs) / len(pairs))
    row = next(row for row in trained.ledger if row.module == inside[0])
    said = next(note for note in row.notes if note.startswith("mse")).removeprefix("mse ").split(" on ")[0]
    assert [float(x) for x in said.split(" to ")] == pytest.approx(losses, rel=1e-3)  # four digits are said
    assert losses[1] < losses[0]


def test_what_lies_in_no_block_is_stored_and_accounted_for(trained):
    original = nets.filled(nets.UNet())
    assert torch.equal(trained.tensor("gain"), original.gain)
    assert torch.equal(trained.tensor("down.0.norm1.running_var"), original.down[0].norm1.running_var)
    rows = {row.module: row for row in trained.ledger}
    assert rows["aside"].format == "int8-channel" and rows["joins.1.up"].format == "int3-channel"
    assert rows["joins.1.up"].kind == "conv_transpose2d" and len(rows) == 15


def test_second_order_rounding_is_the_same_block_by_block_and_at_once(tmp_path):
    """Both feed each layer what the rounded layers before it give."""
    step = tiny.step("gptq", "int3-channel", skip=["aside"])
    inner, whole = (compress(tmp_path / str(len(blocks)), step, blocks=blocks) for blocks in (NAMED, []))
    for name in whole.manifest.layers:
        assert torch.equal(inner.qtensor(name).codes, whole.qtensor(name).codes), name
    assert len(inner.manifest.parts) == 8 and list(whole.manifest.parts) == [""]


@pytest.mark.parametrize("options", [{"threads": 2}, {"threads": 3, "memory": "ample"}], ids=str)
def test_the_bytes_depend_neither_on_threads_nor_on_where_inputs_are_kept(options, trained, tmp_path):
    compress(tmp_path / "out", QAT, tiny.step("rtn", "int8-channel", only=["aside"]), **options)
    assert tiny.hashed_files(tmp_path / "out") == tiny.hashed_files(trained.path)


class Stopped(Exception):
    pass


@pytest.mark.parametrize("after", [1, 5, 7])
def test_an_interrupted_run_ends_in_the_same_bytes(after, trained, tmp_path):
    def progress(what: str, done: int, total: int, note: str = "") -> None:
        if (what, done) == ("compress", after):
            raise Stopped

    steps = (QAT, tiny.step("rtn", "int8-channel", only=["aside"]))
    with pytest.raises(Stopped):
        compress(tmp_path / "out", *steps, progress=progress)
    compress(tmp_path / "out", *steps)
    assert tiny.hashed_files(tmp_path / "out") == tiny.hashed_files(trained.path)


@pytest.mark.parametrize("more", [{"inputs": "original"}, {"aug_loss": True}], ids=str)
def test_blocks_are_fed_and_matched_as_the_settings_say(more, trained, tmp_path):
    artifact = compress(tmp_path / "out", {**QAT, **more})
    later, same = "joins.0.up", "first"  # the first block's inputs are the images in any case
    assert not torch.equal(artifact.qtensor(later).codes, trained.qtensor(later).codes)
    if "inputs" in more:
        assert torch.equal(artifact.qtensor(same).codes, trained.qtensor(same).codes)


def test_the_whole_model_is_tuned_after_its_blocks(trained, tmp_path):
    tune = tiny.step("e2e_scales", loss="mse", lr=1e-2, epochs=4, norms=True)
    artifact = compress(tmp_path / "out", QAT, tiny.step("rtn", "int8-channel", only=["aside"]), tune)
    original, fresh = nets.filled(nets.UNet()), nets.images(4, seed=9)
    distance = []
    for found in (trained, artifact):
        module = nets.filled(nets.UNet())
        module.load_state_dict({n: found.tensor(n) for n in found.plain_names()}, strict=False)
        decoded_into(module, found, found.manifest.layers)
        with torch.no_grad():
            distance.append(sum(float((module(x.clone())["logits"] - original(x.clone())["logits"]).square().mean())
                                for x in fresh))  # fmt: skip
    assert distance[1] < distance[0]


def test_a_block_needs_less_memory_than_the_whole_and_large_images_are_not_refused(tmp_path):
    """What is expected of 2 x 3 x 256 x 256 pixels: the wide layers see few of them."""
    images = nets.images(2, size=(256, 256))
    blocks, whole = (
        compress(tmp_path / "out", QAT, blocks=names, calibration=images, dry_run=True).estimate.peak_bytes
        for names in (NAMED, [])
    )
    resident = compress(tmp_path / "out", tiny.step("rtn", "int3-channel"), dry_run=True).estimate.peak_bytes
    assert blocks < whole < resident + 0.5e9


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(self.a(x)))


class Within(nn.Module):
    """``outer`` calls ``inner``, which lies beside it."""

    class Outer(nn.Module):
        def __init__(self, others: list[nn.Module]) -> None:
            super().__init__()
            self.own, self.others = nn.Conv2d(3, 3, 1), others

        def forward(self, x: Tensor) -> Tensor:
            return self.others[0](self.own(x))

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Conv2d(3, 3, 1)
        self.outer = self.Outer([self.inner])

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(x)


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        self.b.weight = self.a.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x))


class Fickle(nn.Module):
    """The second layer runs on large images only."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.b(x) if x.shape[-1] > 8 else x


class Notebook:
    """What a block could write in."""


class Writes(nn.Module):
    class Inner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor, notes: Notebook) -> Tensor:
            return self.conv(x)

    def __init__(self) -> None:
        super().__init__()
        self.inner = self.Inner()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x, Notebook())


@pytest.mark.parametrize(
    "module, blocks, error, says",
    [
        (Twice(), ["a"], ModelError, "a runs 2 times .* name a module that holds all of it"),
        (Within(), ["outer"], ModelError, "inner runs inside outer"),
        (Shared(), ["a"], ModelError, "a.weight and b.weight are one tensor"),
        (Fickle(), ["a"], ModelError, "b ran on calibration batch 0 and not on batch 1"),
        (Writes(), ["inner"], ModelError, "inner is fed a Notebook"),
        (nets.UNet(), ["aside"], ModelError, "aside did not run"),
        (nets.UNet(), ["dawn.0"], SettingsError, "pattern 'dawn.0' matches no module; did you mean 'down.0'"),
        (nets.UNet(), ["down.0.norm1"], SettingsError, "matches down.0.norm1, which holds no layer"),
        (tiny.llama(), ["model.layers.*"], SettingsError, "blocks of a llama model are known"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_what_cannot_be_a_block_is_refused_with_a_way_out(module, blocks, error, says, tmp_path):
    images = [torch.randn(1, 3, size, size) for size in (16, 8)]
    with pytest.raises(error, match=says):
        compress(tmp_path / "out", tiny.step("gptq", "int4-channel"), module=module, blocks=blocks, calibration=images)


def test_blocks_cannot_be_found_without_a_batch(tmp_path):
    for calibration in (None, []):
        with pytest.raises(DataError, match="the recipe names blocks, .* pass calibration="):
            compress(tmp_path / "out", tiny.step("rtn", "int4-channel"), calibration=calibration)


def test_a_layer_that_no_batch_reaches_is_not_silently_left(tmp_path):
    step = tiny.step("gptq", "int4-channel", only=["aside"])
    with pytest.raises(PartialError, match="aside: gptq needs its inputs, but it never ran"):
        compress(tmp_path / "out", step)


class Labels(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).argmax(1)


class Nothing(nn.Sequential):
    def forward(self, x: Tensor) -> str:
        return f"{super().forward(x).shape}"


ONE = tiny.step("block_qat", "int4-channel", epochs=1)


@pytest.mark.parametrize("blocks", [[], ["0"]], ids=["whole", "blocks"])
@pytest.mark.parametrize(
    "module, batch, error, says",
    [
        (nn.Sequential(nn.Conv2d(3, 4, 1)), torch.randn(1, 5, 8, 8), DataError, "does not take calibration batch 1: .*channels"),
        (nn.Sequential(nn.Conv2d(3, 4, 1)), (torch.randn(1, 3, 8, 8), torch.ones(1)), DataError, "batch 1: .* without labels"),
        (nn.Sequential(nn.Conv2d(3, 4, 1)), {"image": torch.randn(1, 3, 8, 8)}, DataError, "batch 1: .*image"),
        (nn.Sequential(nn.Conv2d(3, 4, 1)), torch.full((1, 3, 8, 8), torch.nan), DataError, "batch 1 holds 192 NaN or Inf"),
        (nn.Sequential(nn.Conv2d(3, 4, 1)), ["a", "b"], DataError, "batch 1 is a list without tensors"),
    ],
    ids=["channels", "labels", "keyword", "nan", "text"],
)  # fmt: skip
def test_a_batch_the_module_does_not_take_is_named(module, batch, error, says, blocks, tmp_path):
    with pytest.raises(error, match=says):
        compress(tmp_path / "out", ONE, module=module, blocks=blocks, calibration=[torch.randn(1, 3, 8, 8), batch])


@pytest.mark.parametrize(
    "module, error, says",
    [
        (Labels(nn.Conv2d(3, 4, 1)), CompressError, "int64, and training needs floating-point outputs; wrap it"),
        (Nothing(nn.Conv2d(3, 4, 1)), ModelError, "gives a str without tensors; wrap it"),
    ],
)
def test_an_output_that_cannot_be_matched_is_refused_with_a_way_out(module, error, says, tmp_path):
    with pytest.raises(error, match=says):
        compress(tmp_path / "out", ONE, module=module, blocks=[])

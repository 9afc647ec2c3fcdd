"""Any module: convolutions of every kind, embeddings, layers that are shared, never run, or called by keyword."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import tiny
from netweight import models, runtime
from netweight.errors import CompressError, DataError, PartialError

KINDS = {
    "linear": (lambda: nn.Linear(16, 8), (6, 16)),
    "conv1d": (lambda: nn.Conv1d(16, 8, 3, padding=1, stride=2), (3, 16, 9)),
    "conv2d": (lambda: nn.Conv2d(16, 8, 3, padding=1, padding_mode="reflect"), (3, 16, 5, 6)),
    "conv3d": (lambda: nn.Conv3d(4, 8, 2, dilation=2), (2, 4, 4, 5, 4)),
    "grouped": (lambda: nn.Conv2d(16, 8, 3, groups=4), (3, 16, 5, 6)),
    "depthwise": (lambda: nn.Conv1d(8, 8, 5, groups=8, padding="same"), (3, 8, 9)),
    "transposed1d": (lambda: nn.ConvTranspose1d(16, 8, 3, stride=2, output_padding=1), (3, 16, 5)),
    "transposed2d": (lambda: nn.ConvTranspose2d(8, 8, 3, padding=1, groups=2), (3, 8, 4, 5)),
    "transposed3d": (lambda: nn.ConvTranspose3d(4, 8, 2), (2, 4, 3, 3, 3)),
}


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def filled(module: nn.Module, seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.data.normal_(std=0.3, generator=generator)
    return module


def without_bias(layer: nn.Module, weight: Tensor, x: Tensor) -> Tensor:
    made = copy.deepcopy(layer)
    made.weight.data.copy_(weight)
    if made.bias is not None:
        made.bias.data.zero_()
    with torch.no_grad():
        return made(x)


@pytest.mark.parametrize("kind", KINDS)
def test_the_ledgers_output_error_is_what_the_layers_output_really_lost(kind, tmp_path):
    """It is computed from the Hessian: right only if the Hessian is, for every kind of layer."""
    make, shape = KINDS[kind]
    module = filled(nn.Sequential(make(), nn.ReLU()))
    batches = [random(*shape, seed=n) for n in range(3)]
    made = tiny.compress(
        module, tmp_path / "out", tiny.step("gptq", "int3-channel", range="minmax"), calibration=batches
    )
    (row,) = made.ledger.quantized()
    weight = runtime.load(made, into=module, kernels="off").module[0].weight.detach()
    original = module[0].weight.detach()
    lost = sum(float(without_bias(module[0], weight - original, x).double().square().sum()) for x in batches)
    had = sum(float(without_bias(module[0], original, x).double().square().sum()) for x in batches)
    assert row.output_error == pytest.approx((lost / had) ** 0.5, rel=1e-4)  # float32 sums over some hundred products
    assert 0 < row.output_error < 0.5


class Net(nn.Module):
    """An embedding, three kinds of convolution, a norm with statistics, and a layer called by keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 8)
        self.conv = nn.Conv1d(8, 12, 3, padding=1)
        self.norm = nn.BatchNorm1d(12)
        self.deep = nn.Conv1d(12, 12, 3, groups=3)
        self.drop = nn.Dropout(0.5)
        self.up = nn.ConvTranspose1d(12, 6, 2, stride=2)
        self.head = nn.Linear(6, 5)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids).transpose(1, 2)
        x = self.drop(torch.relu(self.deep(self.norm(self.conv(x)))))
        return self.head(input=self.up(x).mean(-1))


def net() -> Net:
    module = filled(Net())
    module.norm.running_var.uniform_(0.5, 2, generator=torch.Generator().manual_seed(3))
    return module


def ids(count: int = 3) -> list[Tensor]:
    return [torch.randint(20, (2, 7), generator=torch.Generator().manual_seed(n)) for n in range(count)]


STEPS = (tiny.step("gptq", "int4-channel", range="minmax"), tiny.step("rtn", "int8-g8", only=["embed"]))


def test_a_net_of_many_kinds_is_compressed_and_the_callers_module_is_left_as_it_was(tmp_path):
    module = net().train()
    before = copy.deepcopy(module.state_dict())
    made = tiny.compress(module, tmp_path / "out", *STEPS, calibration=ids())
    assert module.training and module.drop.training
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert not any(hook for m in module.modules() for hook in m._forward_pre_hooks)
    assert [row.action for row in made.ledger] == ["quantized"] * 5
    assert {row.module for row in made.ledger if row.samples} == {"conv", "deep", "up", "head"}

    loaded = runtime.load(made, into=module, kernels="off").module
    by_hand = net().eval()
    for layer, matrix_OI in tiny.decoded(made).items():
        models.set_matrix(by_hand.get_submodule(layer), matrix_OI)
    with torch.no_grad():
        assert torch.equal(loaded(ids()[0]), by_hand(ids()[0]))


@pytest.mark.parametrize("memory", ["lean", "ample"])
def test_dropout_of_a_module_in_training_mode_stays_off_whatever_the_threads(memory, tmp_path):
    batches = ids(8)
    for mode, threads in (("eval", 1), ("train", 1), ("train", 3)):
        module = net().train(mode == "train")
        out = tmp_path / f"{mode}-{threads}"
        tiny.compress(module, out, *STEPS, calibration=batches, threads=threads, memory=memory)
    first, second, third = (tiny.hashed_files(tmp_path / name) for name in ("eval-1", "train-1", "train-3"))
    assert first == second == third


def test_a_live_models_object_is_left_as_it_was(tmp_path):
    model = models.load(net())
    before = model.module.head.weight.clone()
    tiny.compress(model, tmp_path / "out", *STEPS, calibration=ids())
    assert torch.equal(model.module.head.weight, before)


def test_a_module_that_is_itself_a_layer_is_compressed(tmp_path):
    module = filled(nn.Linear(16, 8))
    made = tiny.compress(module, tmp_path / "out", tiny.step("gptq", "int4-g8"), calibration=[random(40, 16)])
    loaded = runtime.load(made, into=module, kernels="off").module
    assert torch.equal(loaded.weight, made.qtensor("").decode())
    assert "weight" not in made.plain_names() and "bias" in made.plain_names()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_a_live_module_keeps_its_type(dtype, tmp_path):
    module = filled(nn.Sequential(nn.Linear(16, 16), nn.GELU(), nn.Linear(16, 8))).to(dtype)
    made = tiny.compress(module, tmp_path / "out", tiny.step("gptq", "int4-g8"), calibration=[random(40, 16).to(dtype)])
    loaded = runtime.load(made, into=module, kernels="off").module
    assert {p.dtype for p in loaded.parameters()} == {dtype}
    assert torch.equal(loaded[2].weight, made.qtensor("2").decode().to(dtype))


def test_a_module_of_two_types_keeps_both(tmp_path):
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.small = nn.Linear(16, 16).bfloat16()
            self.full = nn.Linear(16, 8)

        def forward(self, x: Tensor) -> Tensor:
            return self.full(self.small(x.bfloat16()).float())

    module = filled(Mixed())
    made = tiny.compress(module, tmp_path / "out", tiny.step("gptq", "int4-g8"), calibration=[random(40, 16)])
    loaded = runtime.load(made, into=module, kernels="off").module
    assert (loaded.small.weight.dtype, loaded.full.weight.dtype) == (torch.bfloat16, torch.float32)


def test_a_module_laid_out_channels_last_computes_the_same_from_the_file(tmp_path):
    """Which kernel runs, and so the last bit, depends on the layout: the gate would stop a file that lost it."""
    module = filled(nn.Sequential(nn.Conv2d(16, 8, 3), nn.Conv2d(8, 8, 3))).to(memory_format=torch.channels_last)
    batches = [random(2, 16, 9, 9).to(memory_format=torch.channels_last)]
    made = tiny.compress(module, tmp_path / "out", tiny.step("rtn", "int4-channel", only=["0"]), calibration=batches)
    assert runtime.load(made, into=module, kernels="off").module[0].weight.stride() == module[0].weight.stride()


class Twice(nn.Module):
    """One layer used twice, and two layers that share one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.shared, self.first, self.second = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 16)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(self.shared(torch.tanh(self.shared(x)))))


def test_a_layer_called_twice_sees_both_inputs_and_a_shared_weight_is_rounded_once(tmp_path):
    module = filled(Twice())
    made = tiny.compress(module, tmp_path / "out", tiny.step("gptq", "int4-g8"), calibration=[random(40, 16)])
    rows = {row.module: row for row in made.ledger}
    assert rows["shared"].samples == 80 and rows["first"].samples == 40
    assert rows["second"].tied_to == "first" and "second" not in made.manifest.layers
    loaded = runtime.load(made, into=module, kernels="off").module
    assert loaded.second.weight is loaded.first.weight
    assert torch.equal(loaded.first.weight, made.qtensor("first").decode())


class Unused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used, self.spare = nn.Linear(16, 8), nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.used(x)


def test_a_layer_that_never_runs_is_an_error_that_names_it(tmp_path):
    with pytest.raises(PartialError, match=r"spare: gptq needs its inputs, but it never ran .*allow_partial"):
        tiny.compress(filled(Unused()), tmp_path / "out", tiny.step("gptq", "int4-g8"), calibration=[random(40, 16)])
    assert not (tmp_path / "out").exists()


def test_with_allow_partial_a_layer_that_never_runs_is_left_and_both_ledger_and_manifest_say_so(tmp_path):
    module, batches = filled(Unused()), [random(40, 16)]
    made = tiny.compress(
        module, tmp_path / "out", tiny.step("gptq", "int4-g8"), calibration=batches, allow_partial=True
    )
    (row,) = made.ledger.left()
    assert (row.module, row.bytes_after, row.format, row.steps) == ("spare", 16 * 8 * 4, "", ())
    assert "never ran on the calibration data" in row.reason
    assert made.manifest.problems == (f"spare: {row.reason}",)
    assert torch.equal(runtime.load(made, into=module, kernels="off").module.spare.weight, module.spare.weight)


def test_a_method_without_data_does_not_mind_a_layer_that_never_runs(tmp_path):
    made = tiny.compress(filled(Unused()), tmp_path / "out", tiny.step("rtn", "int4-g8"), calibration=None)
    assert [row.action for row in made.ledger] == ["quantized"] * 2


@pytest.mark.parametrize("batches", [None, []])
def test_a_method_that_needs_data_asks_for_batches(batches, tmp_path):
    with pytest.raises(DataError, match="calibration"):
        tiny.compress(net(), tmp_path / "out", *STEPS, calibration=batches)


def test_fewer_inputs_than_columns_give_an_output_error_that_is_a_number(tmp_path):
    """H is then singular, and the error of weights changed in its null space comes out as zero, give or take rounding."""
    for seed in range(6):
        module = filled(nn.Sequential(nn.Linear(64, 8)), seed)
        made = tiny.compress(
            module, tmp_path / str(seed), tiny.step("gptq", "int8-g8"), calibration=[random(2, 64, seed=seed)]
        )
        assert 0 <= made.ledger.quantized()[0].output_error < 0.1


def test_huge_activations_are_refused_by_the_name_of_the_layer_that_reads_them(tmp_path):
    module = filled(nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 8)))
    module[0].weight.data.mul_(1e38)
    with pytest.raises(CompressError.__mro__[1], match=r"^1: .*NaN or Inf"):
        tiny.compress(module, tmp_path / "out", tiny.step("gptq", "e4m3-channel"), calibration=[1e3 * random(40, 16)])

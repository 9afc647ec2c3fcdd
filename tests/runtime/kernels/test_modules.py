"""Packed modules in the place of a network's own: convolutions, tracing, loading, what is refused and what is said."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import netweight
from netweight import formats, recipe, runtime
from netweight.errors import CorruptError, FormatError, KernelError, SettingsError
from netweight.runtime import kernels
from netweight.runtime._linear import replacement
from runtime_reference import decoded_input

CONVS = [
    dict(in_channels=3, out_channels=40, kernel_size=3, padding=1),
    dict(in_channels=16, out_channels=33, kernel_size=3, stride=2, padding=1),
    dict(in_channels=32, out_channels=8, kernel_size=1),
    dict(in_channels=8, out_channels=16, kernel_size=(5, 3), stride=(1, 2), padding=(2, 0), dilation=(1, 2)),
    dict(in_channels=64, out_channels=64, kernel_size=3, padding=4, dilation=4, bias=False),
]


def packed_conv(settings: dict, format_name: str, *, exact: bool) -> tuple[nn.Module, nn.Conv2d, torch.Tensor]:
    torch.manual_seed(0)
    conv = nn.Conv2d(**settings)
    matrix = conv.weight.detach().movedim(1, -1).reshape(conv.out_channels, -1)
    q = formats.quantize(matrix, formats.get(format_name))
    packed = replacement(conv, kernels.pack(formats.pack(q), q.format, q.shape), exact=exact)
    with torch.no_grad():
        rows = q.decode().reshape(conv.out_channels, *conv.kernel_size, conv.in_channels)
        conv.weight.copy_(rows.movedim(-1, 1))
    assert packed is not None
    return packed, conv, q.decode()


@pytest.mark.parametrize("settings", CONVS, ids=lambda s: f"{s['in_channels']}-{s['out_channels']}-{s['kernel_size']}")
@pytest.mark.parametrize("format_name", ["int4-g64-ragged", "int2-sym-g32-ragged", "int8-channel", "mxfp4"])
def test_convolutions(settings: dict, format_name: str, isa: str):
    taps = np.prod(nn.Conv2d(**settings).kernel_size)
    if format_name == "mxfp4" and settings["in_channels"] * taps % 32:
        pytest.skip("mxfp4 needs a multiple of 32 columns")
    x = torch.randn(2, settings["in_channels"], 19, 23, generator=torch.Generator().manual_seed(1))
    packed, conv, _ = packed_conv(settings, format_name, exact=True)
    with torch.no_grad():
        want = conv.double()(x.double())
        assert float((packed(x).double() - want).abs().max()) < 2e-5 * float(want.abs().max())


@pytest.mark.parametrize(
    "settings", CONVS[1:4], ids=lambda s: f"{s['in_channels']}-{s['out_channels']}-{s['kernel_size']}"
)
def test_convolutions_quantize_each_patch_by_blocks(settings: dict, isa: str):
    packed, conv, weight = packed_conv(settings, "int4-g64-ragged", exact=False)
    x = torch.randn(1, settings["in_channels"], 19, 23, generator=torch.Generator().manual_seed(1))
    columns = nn.functional.unfold(
        x, conv.kernel_size, dilation=conv.dilation, padding=conv.padding, stride=conv.stride
    )[0].T
    taps = conv.kernel_size[0] * conv.kernel_size[1]
    patches = columns.reshape(-1, conv.in_channels, taps).transpose(1, 2).reshape(len(columns), -1)
    with torch.no_grad():
        got = packed(x)
    want = decoded_input(patches) @ weight.double().numpy().T + conv.bias.double().detach().numpy()
    found = got[0].double().reshape(conv.out_channels, -1).T.numpy()
    assert np.abs(found - want).max() < 2e-5 * np.abs(want).max()


def test_an_input_smaller_than_the_kernel_is_refused():
    packed, _, _ = packed_conv(dict(in_channels=8, out_channels=8, kernel_size=5), "int4-g64-ragged", exact=False)
    with pytest.raises(netweight.NetweightError, match="smaller than the kernel"):
        packed(torch.zeros(1, 8, 4, 9))
    with pytest.raises(KernelError, match="4 channels and a 5 x 5 kernel are not 200 columns"):
        packed(torch.zeros(1, 4, 9, 9))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 32, 3, padding=1)
        self.depthwise = nn.Conv2d(32, 32, 3, padding=1, groups=32)
        self.body = nn.Conv2d(32, 64, 3, stride=2, padding=1)
        self.head = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.body(torch.relu(self.depthwise(torch.relu(self.stem(x)))))
        return self.head(torch.relu(x).mean((2, 3)))


@pytest.fixture(scope="module")
def vision(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("kernels") / "vision"
    plan = recipe.load({"name": "vision", "step": [{"use": "rtn", "format": "int4-g64-ragged"}]})
    netweight.compress(Net(), plan, out=out, threads=1)
    return out


def test_every_layer_s_path_is_said_and_slow_ones_can_be_refused(vision: Path):
    loaded = runtime.load(vision, into=Net())
    assert loaded.paths["body"] == f"{kernels.isa()} kernel"
    assert "no kernel for Conv2d" in loaded.paths["depthwise"]
    assert "speed and memory of 1 layers are those of the float32 model" in loaded.summary()
    with pytest.raises(KernelError, match="no packed kernel for 1 layer, the first is depthwise"):
        runtime.load(vision, into=Net(), kernels="require")
    with pytest.raises(SettingsError, match="must be one of auto, require, exact, off"):
        runtime.load(vision, into=Net(), kernels="fast")


def test_a_vision_net_computes_the_same(vision: Path):
    x = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        want = runtime.load(vision, into=Net(), kernels="off").module(x)
        exact = runtime.load(vision, into=Net(), kernels="exact").module(x)
        eight = runtime.load(vision, into=Net()).module(x)
    assert torch.allclose(exact, want, rtol=1e-4, atol=1e-5)
    assert 0 < float((eight - want).std() / want.std()) < 0.05


def test_graphs_are_traced_through_packed_layers(vision: Path):
    module = runtime.load(vision, into=Net()).module
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        want = module(x)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        assert torch.equal(compiled(x), want)


def test_casting_a_model_leaves_packed_weights_alone(vision: Path):
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    module = runtime.load(vision, into=Net()).module
    with torch.inference_mode():
        want = module(x)
        got = module.to(torch.bfloat16)(x.to(torch.bfloat16))
    assert got.dtype == torch.bfloat16
    assert float((got.float() - want).std() / want.std()) < 0.05  # what bfloat16 leaves of the layers between


def test_operators_refuse_tensors_that_are_not_a_packed_matrix():
    q = formats.quantize(torch.randn(40, 128, generator=torch.Generator().manual_seed(0)), formats.get("int4-g64"))
    p = kernels.pack(formats.pack(q), q.format, q.shape)
    x = torch.zeros(1, 128)
    for data, row_scale, row_zero in (
        (p.data[:-1], p.row_scale, None),
        (p.data, p.row_scale.half(), None),
        (p.data, p.row_scale[:40], None),
        (p.data, p.row_scale, p.row_scale),
    ):
        with pytest.raises(KernelError, match="a packed 40 x 128 matrix"):
            kernels.linear(x, data, row_scale, row_zero, None, p.spec.numbers, False)


def test_operators_keep_torch_s_contract():
    q = formats.quantize(torch.randn(40, 128, generator=torch.Generator().manual_seed(0)), formats.get("int4-g64"))
    p = kernels.pack(formats.pack(q), q.format, q.shape)
    arguments = (torch.randn(3, 128), p.data, p.row_scale, p.row_zero, torch.randn(40), p.spec.numbers, False)
    torch.library.opcheck(torch.ops.netweight.linear.default, arguments)


def test_a_language_model_with_tied_embeddings_packs_both_ends(tiny_folder: Path, tmp_path: Path):
    plan = recipe.load({"name": "all", "step": [{"use": "rtn", "format": "int8-g32", "only": ["*"]}]})
    netweight.compress(tiny_folder, plan, out=tmp_path / "out", threads=1)
    loaded = runtime.load(tmp_path / "out", kernels="exact")
    module = loaded.module
    assert module.lm_head.matrix is module.model.embed_tokens.matrix
    ids = torch.arange(20).reshape(2, 10)
    with torch.no_grad():
        want = runtime.load(tmp_path / "out", kernels="off").module(ids).logits
        assert torch.allclose(module(ids).logits, want, rtol=1e-3, atol=1e-4)
    # rows of 32 columns are held as 64: less is saved here than in a model of useful size
    assert runtime.bytes_in_memory(module) < 0.7 * runtime.bytes_in_memory(
        runtime.load(tmp_path / "out", kernels="off").module
    )


def test_damaged_artifacts_are_refused(vision: Path, tmp_path: Path):
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in vision.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    weights = next(copy.glob("*.safetensors"))
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-100])
    with pytest.raises(CorruptError):
        runtime.load(copy, into=Net())
    with pytest.raises((CorruptError, FormatError)):
        runtime.load(copy, into=Net(), check=False)


@pytest.mark.parametrize("level", [*(kernels.levels() if kernels.missing() is None else ()), "nonsense"])
def test_the_environment_chooses_the_instruction_set(level: str):
    code = "from netweight.runtime import kernels; print(kernels.isa())"
    environment = {"NETWEIGHT_ISA": level, "PATH": "", "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    if level == "nonsense":
        assert "NETWEIGHT_ISA 'nonsense': this build on this CPU has" in done.stderr
    else:
        assert done.stdout.strip() == level


def test_a_forked_process_starts_threads_of_its_own():
    code = (
        "import os, torch\n"
        "from netweight import formats\n"
        "from netweight.runtime import kernels\n"
        "kernels.set_threads(3)\n"
        "q = formats.quantize(torch.randn(640, 128), formats.get('int4-g64'))\n"
        "p = kernels.pack(formats.pack(q), q.format, q.shape)\n"
        "x = torch.randn(4, 128)\n"
        "run = lambda: kernels.linear(x, p.data, p.row_scale, p.row_zero, None, p.spec.numbers, False)\n"
        "want = run()\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    os._exit(0 if torch.equal(run(), want) else 3)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), torch.equal(run(), want))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True,
        env={"PATH": "", "PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.stdout.split() == ["0", "True"]

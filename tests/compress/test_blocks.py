"""Block methods against textbook autograd in float64, and the loop they share."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from netweight import formats, registry
from netweight.compress import _fake, _start
from netweight.compress._parallel import pool
from netweight.compress._plugin import Moments
from netweight.compress._problem import Piece, Problem, Training
from netweight.compress._schedule import Schedule
from netweight.compress._train import Trainer
from netweight.errors import CompressError, FormatError, SettingsError
from netweight.models import _precision
from netweight.settings import parse
from oracles import blocks as oracle

OUTPUTS, INPUTS, TOKENS, BATCHES = 8, 64, 48, 3
INT2 = "int2-g32"


def _problem(workers, format_name: str = INT2, seed: int = 0, batches: int = BATCHES) -> Problem:
    """One linear layer whose inputs differ in size from channel to channel and whose targets are its own outputs."""
    g = torch.Generator().manual_seed(seed)
    layer = torch.nn.Linear(INPUTS, OUTPUTS, bias=False)
    layer.weight.data = torch.randn(OUTPUTS, INPUTS, generator=g) * 0.1
    size = torch.rand(INPUTS, generator=g) * 2 + 0.2
    xs = [torch.randn(TOKENS, INPUTS, generator=g) * size for _ in range(batches)]
    hessian = sum(x.double().T @ x.double() for x in xs) * 2 / (batches * TOKENS)
    stats = Moments(hessian, xs[0].abs().mean(0), xs[0].abs().amax(0), batches * TOKENS)
    module = torch.nn.Sequential(layer)
    return Problem(
        name="",
        module=module,
        layers={"0": "0"},
        formats={"0": formats.get(format_name)},
        run=lambda m, number: m(xs[number]),
        targets=[[module(x).detach() for x in xs]],
        moments=lambda: {"0": stats},
        feeds=(),
        pool=workers,
        seed=seed,
    )


def _inputs(problem: Problem) -> list[torch.Tensor]:
    eye = torch.nn.Sequential(torch.nn.Identity())
    return [problem.run(eye, number).double() for number in range(len(problem.targets[0]))]


def _order(problem: Problem, settings: Training, steps: int) -> list[list[int]]:
    """The batches each step takes: what the loop draws is its own affair, that a method uses it is not."""
    trainer = Trainer(problem, [_Still(problem)], settings)
    numbers = trainer._order()
    return [[next(numbers) for _ in range(settings.batch)] for _ in range(steps)]


class _Still(Piece):
    """The layer as it is."""

    def __init__(self, problem: Problem) -> None:
        self.problem, self.name = problem, "0"
        self.trained = {"weight": _start.matrix(problem, "0").requires_grad_()}

    def tensors(self):
        return _start.as_parameter(self.problem, self.name, self.trained["weight"])


def _settings(method: str, **values):
    return parse(registry.find("netweight.compress", method).Settings, {"held_out": 0.0, "batch": 2, **values}, method)


def _run(method: str, problem: Problem, settings):
    plugin = registry.find("netweight.compress", method)
    with torch.no_grad():
        found = plugin.reconstruct(problem, settings)
    return found, found.pieces[0].solution().qtensor


@pytest.fixture
def to_the_end(monkeypatch):
    """The oracles keep what the last step left, not the best step."""
    for method in ("omniquant", "signround", "block_qat", "tesseraq"):
        last = lambda *args, **named: Schedule(*args, **{**named, "choose": False})  # noqa: E731
        monkeypatch.setattr(registry.find("netweight.compress", method), "Schedule", last)
    monkeypatch.setattr(Trainer, "to_here", lambda self: None)


def _agree(q, codes, scale, zero) -> None:
    """The same codes but for a few that lay between two; the same scales but for the last bit of a float16."""
    assert (q.codes.long() == codes).float().mean() > 0.985
    assert torch.equal(q.zero.double(), zero)
    assert ((q.scale.double() - scale).abs() <= scale * 2**-10).all()


@pytest.fixture
def workers():
    with pool(2) as found:
        yield found


def test_omniquant_is_learned_clipping(workers, to_the_end):
    problem = _problem(workers)
    settings = _settings("omniquant", epochs=10, clip_lr=0.02, start="minmax")
    found, q = _run("omniquant", problem, settings)
    want = oracle.omniquant(
        problem.module[0].weight.double(), 2, 32, _inputs(problem), [t.double() for t in problem.targets[0]],
        _order(problem, settings, 10), 0.02, 1.0,
    )  # fmt: skip
    _agree(q, *want[:3])
    torch.testing.assert_close(found.pieces[0].trained["high"].double(), want[3]["gamma"], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(found.pieces[0].trained["low"].double(), want[3]["beta"], rtol=1e-3, atol=1e-3)
    assert (want[3]["gamma"] - 4).abs().max() > 0.1, "nothing was learned, so nothing was compared"


def test_signround_takes_signed_steps(workers, to_the_end):
    problem = _problem(workers, seed=2)
    settings = _settings("signround", iterations=12, lr=0.04, range_lr=0.01)
    found, q = _run("signround", problem, settings)
    want = oracle.signround(
        problem.module[0].weight.double(), 2, 32, _inputs(problem), [t.double() for t in problem.targets[0]],
        _order(problem, settings, 12), 0.04, 0.01,
    )  # fmt: skip
    _agree(q, *want[:3])
    same = (found.pieces[0].trained["rounding"].double() - want[3]["v"]).abs() < 1e-5
    assert same.float().mean() > 0.98
    assert want[3]["v"].abs().max() > 0.1


def test_block_qat_trains_weights_scales_and_zeros(workers, to_the_end):
    problem = _problem(workers, seed=1)
    settings = _settings("block_qat", epochs=10, weight_lr=2e-3, scale_lr=5e-3, start="mse")
    weight = problem.module[0].weight.detach().clone()
    first = _start.params(weight, problem.formats["0"], "mse", None)
    found, q = _run("block_qat", problem, settings)
    want = oracle.block_qat(
        weight.double(), 2, 32, first.scale_RG.double(), first.zero_RG.double(), _inputs(problem),
        [t.double() for t in problem.targets[0]], _order(problem, settings, 10), 2e-3, 5e-3,
    )  # fmt: skip
    _agree(q, *want[:3])
    piece = found.pieces[0]
    for role, name in (("weight", "W"), ("scale", "t"), ("zero", "z")):
        torch.testing.assert_close(piece.trained[role].double(), want[3][name].detach(), rtol=1e-3, atol=2e-4)
    assert (want[3]["W"] - weight).abs().max() > 5e-3 and want[3]["t"].abs().max() > 5e-3


def test_tesseraq_hardens_and_tunes(workers, to_the_end):
    problem = _problem(workers)
    soft = (0.7, 0.4, 0.1)
    settings = _settings("tesseraq", soft=list(soft), iterations=6, lr=0.05, scale_lr=0.01, start="mse")
    weight = problem.module[0].weight.detach().clone()
    first = _start.params(weight, problem.formats["0"], "mse", None)
    _, q = _run("tesseraq", problem, settings)
    want = oracle.tesseraq(
        weight.double(), 2, 32, first.scale_RG.double(), first.zero_RG.double(), _inputs(problem),
        [t.double() for t in problem.targets[0]], soft, 6, _order(problem, settings, 18), 0.05, 0.01, 1e-4,
    )  # fmt: skip
    _agree(q, *want[:3])
    nearest = formats.encode(weight, first, problem.formats["0"]).codes
    assert (q.codes != nearest).any(), "nothing was rounded otherwise, so nothing was compared"


@pytest.mark.parametrize(
    "format_name",
    ["int2-g32", "int3-sym-g32", "int4-channel", "int2-g32-fz", "int3-g32-s6", "nvfp4", "e4m3-g32", "mxfp4"],
)
def test_gradients_are_those_of_the_straight_through_estimator(format_name):
    """Textbook: value = s * level with level = clamp(round(w / s)), differentiated with the rounding left out."""
    g = torch.Generator().manual_seed(0)
    format = formats.get(format_name)
    weight = torch.randn(6, 64, generator=g)
    params = formats.fit(weight, format, ratio=0.6)  # so that some are clipped
    up = torch.randn(6, 64, generator=g)
    w, s = weight.clone().requires_grad_(), params.scale_RG.clone().requires_grad_()
    z = None if params.zero_RG is None else params.zero_RG.clone().requires_grad_()
    value = _fake.fake_quantize(w, dataclasses.replace(params, scale_RG=s, zero_RG=z), format)
    assert torch.equal(value, formats.encode(weight, params, format).decode())
    leaves = [w, s] + ([z] if z is not None else [])
    got = torch.autograd.grad(value, leaves, up)

    w2, s2 = weight.double().requires_grad_(), params.scale_RG.double().requires_grad_()
    z2 = torch.zeros(s2.shape, dtype=torch.float64) if z is None else params.zero_RG.double()
    z2 = z2.requires_grad_()
    wide = (6, 64 // s2.shape[1])
    spread = lambda t: t.repeat_interleave(wide[1], 1)  # noqa: E731
    unit = spread(s2) if params.tensor_scale is None else spread(s2) / params.tensor_scale.double()
    levels = _fake.grid(format, weight.device).double()
    if z is not None or format.family == "integer":
        offset = spread(z2) if z is not None else torch.tensor(2.0 ** (format.bits - 1), dtype=torch.float64)
        low, high = 0 - offset, 2**format.bits - 1 - offset
        slack = 0.5
    else:
        low, high, slack = levels[0].expand(6, 64), levels[-1].expand(6, 64), 0.0
    units = w2 / unit
    level = (value.double() / unit).detach()
    through = units + (level - units).detach()
    ended = torch.where(units < (low - slack), low, torch.where(units > (high + slack), high, through))
    assert ((units < low - slack) | (units > high + slack)).any()
    want = torch.autograd.grad(ended * unit, [w2, s2] + ([z2] if z is not None else []), up.double())
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "format_name",
    ["int2-g32", "int3-sym-g32", "int4-channel", "int2-g32-fz", "int3-g32-s6", "nvfp4", "nf4", "int2-g48-ragged"],
)
def test_codes_under_another_scale_and_the_gradient_of_that_scale(format_name):
    """Against decoding by the format itself, and sums of gradient times level taken element by element."""
    e2e, format = registry.find("netweight.compress", "e2e_scales"), formats.get(format_name)
    q = formats.quantize(torch.randn(6, 64, generator=torch.Generator().manual_seed(0)), format)
    scale = (q.scale * 1.25).requires_grad_()
    up = torch.randn(6, 64, generator=torch.Generator().manual_seed(1))
    value = e2e._Rescaled.apply(scale, q)
    want = formats.QTensor(q.codes, dataclasses.replace(q.params, scale_RG=scale.detach()), format).decode()
    assert torch.equal(value, want)
    (got,) = torch.autograd.grad(value, scale, up)
    width = format.group or 64
    level = want.double() / formats.expand(dataclasses.replace(q.params, scale_RG=scale.detach()), format, (6, 64))[0]
    for row in range(6):
        for group in range(scale.shape[1]):
            part = slice(group * width, (group + 1) * width)
            assert float(got[row, group]) == pytest.approx(
                float((up[row, part] * level[row, part]).sum()), rel=1e-4, abs=1e-5
            )


@pytest.mark.parametrize("format_name", ["int2-g32", "int3-sym-g32", "int2-g32-fz", "nvfp4", "e2m1-g32"])
def test_each_weight_lies_between_the_levels_around_it(format_name):
    format = formats.get(format_name)
    weight = torch.randn(6, 64, generator=torch.Generator().manual_seed(0))
    params = formats.fit(weight, format, ratio=0.7)
    lower, gap = _fake.around(weight, params, format)
    units = weight / _fake.unit(params, format, (6, 64))
    inside = gap > 0
    assert ((lower <= units + 1e-5) & (units <= lower + gap + 1e-5))[inside].all() and inside.float().mean() > 0.5
    for level in (lower, lower + gap):
        value = level * _fake.unit(params, format, (6, 64))
        again = formats.encode(value, params, format).decode()
        torch.testing.assert_close(again, value, rtol=1e-5, atol=1e-6)


def test_hardening_leaves_the_share_asked_for_soft_and_ends_with_none(workers):
    tesseraq = registry.find("netweight.compress", "tesseraq")
    problem = _problem(workers)
    weight = _start.matrix(problem, "0")
    layer = tesseraq._Layer(problem, "0", weight, _start.params(weight, problem.formats["0"], "minmax", None))
    for share in (0.8, 0.31, 0.05):
        layer.harden(share)
        h = tesseraq.soft(layer.trained["rounding"])
        assert int(((h > 0) & (h < 1)).sum()) <= int(share * h.numel())
        assert (
            int(((h > 0) & (h < 1)).sum()) >= int(share * h.numel()) - 40
        )  # those that begin on a level are hard by nature
    layer.harden(0)
    h = tesseraq.soft(layer.trained["rounding"])
    assert ((h == 0) | (h == 1)).all()


@pytest.mark.parametrize("method", ["omniquant", "signround", "tesseraq", "block_qat"])
def test_without_its_weight_the_sliced_term_leaves_the_base_method_as_it_is(workers, to_the_end, method):
    few = {
        "omniquant": {"epochs": 8, "clip_lr": 0.3}, "block_qat": {"epochs": 8, "weight_lr": 5e-3, "scale_lr": 2e-2},
        "signround": {"iterations": 6}, "tesseraq": {"iterations": 6},
    }[method]  # fmt: skip
    bits = []
    for loss in ("mse", {"use": "mse+sw", "sw": 0.0, "projections": 8}, {"use": "mse+sw", "sw": 0.5, "projections": 8}):
        _, q = _run(method, _problem(workers), _settings(method, loss=loss, **few))
        bits.append(q.decode())
    assert torch.equal(bits[0], bits[1])
    assert not torch.equal(bits[0], bits[2])


@pytest.mark.parametrize("method", ["omniquant", "signround", "tesseraq", "block_qat"])
def test_threads_do_not_change_a_bit(method):
    few = {"iterations": 5} if method in ("signround", "tesseraq") else {"epochs": 2}
    found = []
    for threads in (1, 3):
        with pool(threads) as workers:
            loss = {"use": "mse+sw", "sw": 0.3, "scaling": "self", "projections": 8}
            found.append(_run(method, _problem(workers), _settings(method, loss=loss, **few))[1])
    assert torch.equal(found[0].codes, found[1].codes) and torch.equal(found[0].scale, found[1].scale)


@pytest.mark.parametrize("method", ["omniquant", "signround", "tesseraq", "block_qat"])
def test_training_ends_no_worse_than_it_began(workers, method):
    """On the batches that choose; with steps so large that they only do harm what it began with is kept."""
    wild = {
        "omniquant": {"clip_lr": 50.0}, "signround": {"lr": 5.0}, "block_qat": {"weight_lr": 5.0, "scale_lr": 5.0},
        "tesseraq": {"lr": 50.0, "scale_lr": 5.0},
    }[method]  # fmt: skip
    found, q = _run(method, _problem(workers, batches=8), _settings(method, **wild))
    before, after = found.note.split(" on ")[0].removeprefix("mse ").split(" to ")
    assert float(after) <= float(before)
    assert torch.isfinite(q.decode()).all()


class _Bomb(_Still):
    """Its loss is NaN once the weight has moved far enough."""

    def tensors(self):
        weight = self.trained["weight"]
        far = float((weight.detach() - self.first).abs().max())
        return _start.as_parameter(self.problem, self.name, weight * (torch.nan if far > 0.5 else 1.0))


def test_a_step_that_is_not_finite_sends_training_back_with_half_the_rate(workers):
    problem = _problem(workers, batches=8)
    piece = _Bomb(problem)
    piece.first = piece.trained["weight"].detach().clone()
    problem = dataclasses.replace(problem, targets=[[3 * t for t in problem.targets[0]]])
    trainer = Trainer(problem, [piece], Training(held_out=0.25, batch=2))
    outcome = trainer.phase(Schedule(12, {"weight": 0.4}))
    assert outcome.halved >= 1 and "rates halved" in outcome.note()
    assert outcome.after["total"] < outcome.before["total"]
    assert torch.isfinite(piece.tensors()["0.weight"]).all()


def test_held_out_batches_are_not_trained_on(workers):
    trainer = Trainer(_problem(workers, batches=16), [_Still(_problem(workers))], Training(held_out=0.25))
    assert len(trainer.held) == 4 and len(trainer.train) == 12
    assert not set(trainer.held) & set(trainer.train)
    drawn = trainer._order()
    assert {next(drawn) for _ in range(12)} == set(trainer.train)


def test_batches_and_directions_go_on_from_phase_to_phase(workers, monkeypatch):
    problem = _problem(workers, batches=8)
    settings = Training.model_validate({"held_out": 0.0, "batch": 2, "loss": {"use": "mse+sw", "sw": 0.1}})
    trainer = Trainer(problem, [_Still(problem)], settings)
    seen: list[tuple[int, int]] = []
    backward = trainer._backward

    def watched(plain, names, number):
        seen.append((trainer.taken, number))
        return backward(plain, names, number)

    monkeypatch.setattr(trainer, "_backward", watched)
    for _ in range(4):
        trainer.phase(Schedule(1, {"weight": 1e-4}))
    assert {number for _, number in seen} == set(range(8)), "four phases of one step see every batch once"
    assert [step for step, _ in seen] == [0, 0, 1, 1, 2, 2, 3, 3]


def test_the_note_says_what_the_losses_were_measured_on(workers):
    problem = _problem(workers, batches=8)
    for share, said in ((0.25, "on held-out batches"), (0.0, "on the batches trained on")):
        trainer = Trainer(problem, [_Still(problem)], Training(held_out=share))
        trainer.phase(Schedule(1, {"weight": 1e-4}))
        assert said in trainer.result().note


def test_bf16_is_used_where_the_processor_has_it_and_said_where_it_is_not(monkeypatch, workers):
    def rows(has: bool, precision: str) -> tuple[set[torch.dtype], str]:
        seen = set()
        problem = _problem(workers)
        run = lambda m, number: seen.add((out := problem.run(m, number)).dtype) or out  # noqa: E731
        monkeypatch.setattr(_precision, "has_bf16", lambda device: has)
        settings = _settings("block_qat", epochs=1, precision=precision)
        found, _ = _run("block_qat", dataclasses.replace(problem, run=run), settings)
        return seen, found.note

    assert rows(True, "bf16")[0] == {torch.bfloat16} and "no bf16" not in rows(True, "bf16")[1]
    assert rows(False, "bf16")[0] == {torch.float32} and rows(False, "bf16")[1].endswith("this processor has no bf16")
    assert rows(False, "fp32")[0] == {torch.float32} and "no bf16" not in rows(False, "fp32")[1]


def test_a_block_without_batches_is_refused(workers):
    problem = dataclasses.replace(_problem(workers), targets=[[]])
    with pytest.raises(CompressError, match="no calibration batches"):
        Trainer(problem, [_Still(problem)], Training())


@pytest.mark.parametrize("method", ["omniquant", "signround"])
@pytest.mark.parametrize("format_name", ["mxfp4", "nf4"])
def test_a_format_whose_range_cannot_be_learned_is_refused_with_a_way_out(method, format_name):
    plugin = registry.find("netweight.compress", method)
    with pytest.raises(FormatError, match="use"):
        plugin.check(formats.get(format_name), plugin.Settings())


def test_channel_scales_need_something_that_takes_them_up(workers):
    with pytest.raises(CompressError, match="let = false"):
        _run("omniquant", _problem(workers), _settings("omniquant", let=True))


@pytest.mark.parametrize("loss", ["nonsense", {"use": "mse+sw", "weight": 1.0}, {"sw": 0.1}])
def test_a_loss_that_is_none_is_refused_when_the_recipe_is_read(loss):
    with pytest.raises(SettingsError):
        _settings("block_qat", loss=loss)

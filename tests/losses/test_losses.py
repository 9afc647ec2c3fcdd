"""Every loss: zero at equality, right gradients, and what else its own file promises."""

import itertools

import numpy as np
import pytest
import torch
from scipy.stats import wasserstein_distance

from netweight import losses, registry, settings
from netweight.errors import SettingsError, UnknownName
from netweight.losses import _directions, _transport, kl, sliced_wasserstein

NAMES = registry.names("netweight.losses")
DIRECTIONS = ("gaussian", "orthogonal", "principal", "channels", "max")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def settings_of(**values) -> sliced_wasserstein.Settings:
    return settings.parse(sliced_wasserstein.Settings, values, "test")


def clouds(n: int, m: int, width: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    y = torch.randn(n, width, generator=generator(seed), dtype=torch.float64)
    return y, torch.randn(m, width, generator=generator(seed + 1), dtype=torch.float64) * 1.5 + 0.3


@pytest.mark.parametrize("name", NAMES)
def test_zero_at_equality_and_positive_elsewhere(name: str):
    y, x = clouds(12, 12, 5)
    assert float(losses.make(name)(x.clone(), x, generator()).total) == pytest.approx(0, abs=1e-12)
    assert float(losses.make(name)(y, x, generator()).total) > 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_gradients(name: str):
    y, x = clouds(9, 9, 4)
    loss = losses.make(name)
    assert torch.autograd.gradcheck(lambda p: loss(p, x, generator(3)).total, (y.requires_grad_(),))


def test_known_values():
    y, x = torch.tensor([[1.0, 2.0], [3.0, 5.0]]), torch.tensor([[0.0, 2.0], [1.0, 1.0]])
    value = {name: float(losses.make(name)(y, x, generator()).total) for name in ("mse", "l2", "mae", "cosine")}
    assert value["mse"] == 21 / 4 and value["l2"] == 21 / 2 and value["mae"] == 7 / 4
    assert value["cosine"] == pytest.approx(1 - (4 / (5**0.5 * 2) + 8 / (34**0.5 * 2**0.5)) / 2, rel=1e-6)
    p, q = np.array([0.7, 0.2, 0.1]), np.array([0.5, 0.3, 0.2])
    kl = losses.make("kl")(torch.tensor(np.log(p))[None], torch.tensor(np.log(q))[None], generator()).total
    assert float(kl) == pytest.approx(float((q * np.log(q / p)).sum()), rel=1e-12)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_kl_a_few_rows_at_a_time_is_kl_in_one(temperature: float, monkeypatch):
    monkeypatch.setattr(kl, "CHUNK", 3 * 7 + 1)  # three rows at a time, and two at last
    y, x = (cloud.unflatten(0, (4, 5)) for cloud in clouds(20, 20, 7))
    found, want = y.clone().requires_grad_(), y.clone().requires_grad_()
    value = losses.make({"use": "kl", "temperature": temperature})(found, x, generator()).total
    p, q = (logits / temperature for logits in (want, x))
    whole = torch.nn.functional.kl_div(p.log_softmax(-1), q.softmax(-1), reduction="sum") * temperature**2 / 20
    torch.testing.assert_close(value, whole, rtol=1e-12, atol=0)
    (3 * value).backward()
    (3 * whole).backward()
    torch.testing.assert_close(found.grad, want.grad, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize(("n", "m"), [(40, 40), (7, 5), (6, 4), (1, 9), (12, 36)])
@pytest.mark.parametrize("order", [1, 2])
def test_each_line_is_exact_optimal_transport(n: int, m: int, order: int):
    y, x = clouds(n, m, 6)
    chosen = settings_of(projections=11, order=order)
    found = float(sliced_wasserstein.loss(y, x, chosen, generator(5)))
    want = []
    for u in _directions.draw(y, x, chosen, generator(5)):
        a, b = (y @ u).numpy(), (x @ u).numpy()
        if order == 1:
            want.append(wasserstein_distance(a, b))
        else:  # every value as often as both numbers of values have in common
            many = np.lcm(n, m)
            want.append(np.mean((np.repeat(np.sort(a), many // n) - np.repeat(np.sort(b), many // m)) ** 2))
    assert found == pytest.approx(np.mean(want), rel=1e-9)


@pytest.mark.parametrize(("n", "m"), [(9, 9), (8, 6)])
@pytest.mark.parametrize("order", [1, 2])
def test_gradients_of_unequal_clouds(n: int, m: int, order: int):
    y, x = clouds(n, m, 4)
    chosen = settings_of(projections=7, order=order)
    assert torch.autograd.gradcheck(
        lambda p: sliced_wasserstein.loss(p, x, chosen, generator(2)), (y.requires_grad_(),)
    )


def test_the_slope_of_a_direction_is_what_differences_say():
    y, x = clouds(10, 7, 3)
    u = torch.nn.functional.normalize(torch.randn(1, 3, generator=generator(4), dtype=torch.float64))
    slope = _transport.slope_of_directions(y, x, u, 2)[0]
    for axis in range(3):
        step = torch.zeros_like(u)
        step[0, axis] = 1e-6
        ends = [float(_transport.Distance.apply(y, x, u + sign * step, 2)) for sign in (1, -1)]
        assert float(slope[axis]) == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-6)


@pytest.mark.parametrize("directions", DIRECTIONS)
def test_any_order_of_the_tokens_is_the_same_distance(directions: str):
    y, x = clouds(30, 30, 8)
    chosen = settings_of(projections=16, directions=directions)
    first = float(sliced_wasserstein.loss(y, x, chosen, generator()))
    mixed = y[torch.randperm(30, generator=generator(9))]
    assert float(sliced_wasserstein.loss(mixed, x, chosen, generator())) == pytest.approx(first, rel=1e-12)
    shuffled = float(sliced_wasserstein.loss(x[torch.randperm(30, generator=generator(8))], x, chosen, generator()))
    assert shuffled == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("directions", DIRECTIONS)
def test_directions_have_unit_length_and_come_from_the_generator_alone(directions: str):
    y, x = clouds(20, 20, 10)
    chosen = settings_of(projections=24, directions=directions, channels=4)
    torch.manual_seed(1)
    first = _directions.draw(y, x, chosen, generator(6))
    torch.manual_seed(2)
    assert torch.equal(first, _directions.draw(y, x, chosen, generator(6)))
    assert first.shape == (24, 10) and torch.allclose(first.norm(dim=-1), torch.ones(24, dtype=torch.float64))
    assert not torch.equal(first, _directions.draw(y, x, chosen, generator(7)))


def test_what_sets_the_kinds_of_directions_apart():
    y, x = clouds(50, 50, 10)
    x[:, 3:] = 0  # three principal components
    draw = {
        kind: _directions.draw(y, x, settings_of(projections=20, directions=kind, channels=4, rank=3), generator())
        for kind in DIRECTIONS
    }
    right = draw["orthogonal"][:10] @ draw["orthogonal"][:10].T
    assert torch.allclose(right, torch.eye(10, dtype=torch.float64), atol=1e-6)
    assert float(draw["principal"][:, 3:].abs().max()) < 1e-9
    touched = (draw["channels"] != 0).unflatten(1, (-1, 2))  # runs of 4, 4 and 2 channels
    runs = {"11000", "00110", "00001"}
    assert {"".join(str(int(used)) for used in row.any(-1)) for row in touched} == runs
    plain, most = (_transport.Distance.apply(y, x, draw[kind], 1) for kind in ("gaussian", "max"))
    assert float(most) > 1.2 * float(plain)


def test_few_lines_at_a_time_change_nothing(monkeypatch):
    y, x = clouds(33, 21, 6)
    chosen = settings_of(projections=10)
    whole = sliced_wasserstein.loss(y.requires_grad_(), x, chosen, generator())
    (want,) = torch.autograd.grad(whole, y)
    monkeypatch.setattr(_transport, "AT_ONCE", 70)  # two lines
    parts = sliced_wasserstein.loss(y, x, chosen, generator())
    (found,) = torch.autograd.grad(parts, y)
    assert float(parts.detach()) == pytest.approx(float(whole.detach()), rel=1e-12) and torch.allclose(
        found, want, rtol=1e-12
    )


def test_groups_of_tokens_are_rows():
    y, x = (cloud.reshape(2, 6, 4) for cloud in clouds(12, 12, 4))
    chosen = settings_of(projections=8, group=3)
    plain = settings_of(projections=8)
    found = float(sliced_wasserstein.loss(y, x, chosen, generator()))
    assert found == float(sliced_wasserstein.loss(y.reshape(4, 12), x.reshape(4, 12), plain, generator()))
    with pytest.raises(SettingsError, match="group = 3 does not divide the 5 tokens"):
        sliced_wasserstein.loss(y[:, :5], x[:, :5], chosen, generator())


def test_the_hybrid_is_its_terms_with_their_weights():
    y, x = clouds(16, 16, 5)
    parts = {name: float(losses.make(name)(y, x, generator(1)).total) for name in ("mse", "sliced_wasserstein")}
    hybrid = losses.make({"use": "mse+sw", "sw": 0.2, "projections": 128})(y, x, generator(1))
    assert dict(hybrid.parts) == pytest.approx(parts)
    assert float(hybrid.total) == pytest.approx(0.8 * parts["mse"] + 0.2 * parts["sliced_wasserstein"])
    given = losses.make({"use": "mse+sw", "sw": 0.2, "base": 1.0})(y, x, generator(1))
    assert float(given.total) == pytest.approx(parts["mse"] + 0.2 * parts["sliced_wasserstein"])


def test_self_scaling_makes_the_terms_equal_at_the_first_step_and_keeps_the_factor():
    y, x = clouds(16, 16, 5)
    loss = losses.make({"use": "l2+sw", "sw": 0.5, "scaling": "self"})
    first = loss(y, x, generator(1))
    assert float(first.total) == pytest.approx(first.parts["l2"])
    assert loss.factor == pytest.approx(first.parts["l2"] / first.parts["sliced_wasserstein"])
    before = loss.factor
    loss(y * 2, x, generator(2))
    assert loss.factor == before and loss.begun().factor is None


def test_without_weight_the_other_term_is_not_computed():
    y, x = clouds(16, 16, 5)
    loss = losses.make({"use": "mse+sw", "sw": 0.0})
    source = generator(1)
    before = source.get_state()
    found = loss(y, x, source)
    assert torch.equal(found.total, losses.make("mse")(y, x, generator(1)).total)
    assert torch.equal(source.get_state(), before) and set(found.parts) == {"mse"}


@pytest.mark.parametrize(
    ("table", "error", "message"),
    [
        ("mes", UnknownName, "did you mean 'mse'"),
        ({"use": "mse+sw", "projection": 4}, SettingsError, "did you mean 'projections'"),
        ({"use": "mse", "sw": 0.1}, SettingsError, "'sw' is not a setting"),
        ({"use": "mse+kl"}, SettingsError, 'as in "mse\\+sw"'),
        ({"use": "mse+sw", "sw": -1.0}, SettingsError, "sw = -1.0"),
        ({"sw": 0.1}, SettingsError, "must name a loss"),
    ],
)
def test_wrong_words_are_refused(table, error, message):
    with pytest.raises(error, match=message):
        losses.make(table)


def test_clouds_of_unlike_widths_are_refused():
    with pytest.raises(SettingsError, match="rows of 4 and of 5 numbers"):
        sliced_wasserstein.loss(torch.zeros(3, 4), torch.zeros(3, 5), settings_of(), generator())


def test_unequal_steps_cover_everything_once():
    for n, m in itertools.product(range(1, 9), repeat=2):
        width, at_y, at_x = _transport.steps(n, m)
        assert float(width.sum()) == pytest.approx(1) and at_y.max() == n - 1 and at_x.max() == m - 1
        assert np.allclose(np.bincount(at_y, width, minlength=n), 1 / n)
        assert np.allclose(np.bincount(at_x, width, minlength=m), 1 / m)

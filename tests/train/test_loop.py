"""The loop: restarts to the bit, best weights kept, what a pass draws, and what is said when numbers overflow."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from netweight.errors import DataError, SettingsError
from netweight.models import _precision
from netweight.settings import parse
from netweight.train import STATE, Lesson, Training, bce_tversky, fit
from netweight.train._loop import _Run, batched, order

SIZE = 8


class Blobs:
    """Noise with a bright square where the mask is; every fourth slice is empty. Augmentation: a shift of the brightness."""

    def __init__(self, count: int = 16) -> None:
        generator = torch.Generator().manual_seed(3)
        self.images = torch.randn(count, 3, SIZE, SIZE, generator=generator)
        self.masks = torch.zeros(count, SIZE, SIZE, dtype=torch.bool)
        for number in range(count):
            if number % 4:
                self.masks[number, 2:5, 1 : 2 + number % 4] = True
        self.images += 3 * self.masks[:, None]

    def drawn(self, numbers, epoch):
        images, masks = self.plain(numbers)
        return images + 0.1 * epoch + torch.tensor(numbers)[:, None, None, None] / 100, masks

    def plain(self, numbers):
        return self.images[list(numbers)], self.masks[list(numbers)]

    def positive(self, number):
        return bool(self.masks[number].any())


def net() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2), nn.Conv2d(8, 1, 3, padding=1)
        )


def plain() -> nn.Module:
    """Without anything that changes but by the optimizer."""
    return nn.Conv2d(3, 1, 3, padding=1)


def settings(**given) -> Training:
    return parse(Training, {"epochs": 6, "batch": 4, "lr": 1e-2, **given}, "test")


def lesson(module: nn.Module, **given) -> Lesson:
    return Lesson(module, Blobs(), range(12), range(12, 16), **given)


def weights(module: nn.Module) -> list[bytes]:
    return [tensor.numpy().tobytes() for tensor in module.state_dict().values()]


class Stop(Exception):
    pass


def stop_at(what: str, count: int):
    def progress(name, done, total, note=""):
        if name == what and done == count:
            raise Stop

    return progress


def test_training_lowers_the_loss_and_the_best_weights_are_those_kept():
    module = net()
    history = fit(lesson(module), settings(epochs=12), seed=1)
    losses = [row["validation"] for row in history.rows]
    assert history.best == 1 + losses.index(min(losses)) and history.best_loss == min(losses) < 0.8 * losses[0]
    assert not module.training
    images, masks = Blobs().plain(range(12, 16))
    with torch.no_grad():
        assert float(bce_tversky(module(images), masks)) == min(losses)


def test_the_best_weights_are_kept_where_later_ones_are_worse():
    module = net()

    class Spoil:
        """From the fourth pass on the last layer is set to say yes everywhere."""

        def before(self, step): ...

        def after(self, step):
            if step >= 9:
                with torch.no_grad():
                    module[4].bias.fill_(9.0)

        def state_dict(self):
            return {}

        def load_state_dict(self, state): ...

    history = fit(lesson(module, hooks=[Spoil()]), settings(), seed=1)
    assert len(history.rows) == 6 and history.best <= 3 and module[4].bias.item() != 9.0
    assert history.rows[-1]["validation"] > 2 * history.best_loss


@pytest.mark.parametrize("what, count", [("steps", 2), ("steps", 7), ("passes", 3), ("steps", 17)])
def test_training_that_was_stopped_goes_on_to_the_same_bytes(tmp_path, what, count):
    straight, broken = net(), net()
    whole = fit(lesson(straight), settings(), seed=1)
    with pytest.raises(Stop):
        fit(lesson(broken), settings(), seed=1, folder=tmp_path, progress=stop_at(what, count))
    fresh = net()
    torch.rand(3)  # what else was drawn in the process must not matter
    resumed = fit(lesson(fresh), settings(), seed=1, folder=tmp_path)
    assert weights(fresh) == weights(straight)
    assert resumed == whole and (tmp_path / STATE).is_file()


def test_other_seeds_end_in_other_weights():
    first, second = net(), net()
    fit(lesson(first), settings(epochs=2), seed=1)
    fit(lesson(second), settings(epochs=2), seed=2)
    assert weights(first) != weights(second)


def test_the_process_s_own_random_state_is_left_alone():
    before = torch.random.get_rng_state()
    fit(lesson(net()), settings(epochs=1), seed=1)
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_loss_that_is_not_finite_ends_training_with_the_best_weights_and_names_the_first_tensor():
    module = net()

    class Poison:
        def before(self, step):
            if step == 7:
                with torch.no_grad():
                    module[4].weight[0, 0, 0, 0] = torch.inf

        def after(self, step): ...
        def state_dict(self):
            return {}

        def load_state_dict(self, state): ...

    history = fit(lesson(module, hooks=[Poison()]), settings(), seed=1)
    assert history.steps == 7 and len(history.rows) == 2
    assert "first the parameter 4.weight" in history.ended and "step 8" in history.ended
    assert all(torch.isfinite(tensor).all() for tensor in module.state_dict().values())


class After:
    """Does something to the module after a step."""

    def __init__(self, step, what):
        self.step, self.what = step, what

    def before(self, step): ...
    def after(self, step):
        if step == self.step:
            with torch.no_grad():
                self.what()

    def state_dict(self):
        return {}

    def load_state_dict(self, state): ...


@pytest.mark.parametrize("value", [torch.inf, torch.nan])
@pytest.mark.parametrize("passes", [1, 2])
def test_what_is_not_finite_first_in_validation_is_named(value, passes):
    """Also an infinite logit, which the loss itself would cut off."""
    module = net()
    last = list(module.modules())[-1]
    steps = fit(lesson(net()), settings(epochs=passes), seed=1).steps
    poison = After(steps - 1, lambda: last.bias.fill_(value))
    history = fit(lesson(module, hooks=[poison]), settings(epochs=passes), seed=1)
    assert history.diverged and len(history.rows) == passes - 1
    name = next(name for name, part in module.named_modules() if part is last)
    kept = "the best weights before it are kept" if passes == 2 else "the weights are those it began with"
    assert history.ended == f"validation after pass {passes} is not finite: first the parameter {name}.bias; {kept}"
    assert all(torch.isfinite(tensor).all() for tensor in module.state_dict().values())


def test_an_infinite_logit_ends_training_although_the_loss_would_cut_it_off():
    module = net()
    last = list(module.modules())[-1]
    poison = After(0, lambda: last.bias.fill_(torch.inf))
    history = fit(lesson(module, hooks=[poison]), settings(), seed=1)
    assert (
        history.diverged
        and history.steps == 1
        and "not finite at step 2, in pass 1: first the parameter" in history.ended
    )


def test_an_output_that_overflows_is_named_before_what_follows_from_it():
    module = net()
    module[0].weight.data *= 1e30
    module[0].bias.data += 3e38
    module[0].bias.data *= 10
    history = fit(lesson(module), settings(), seed=1)
    assert "the parameter 0.bias" in history.ended
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 1, 1))
    module[0].weight.data.fill_(1e30)
    module[1].weight.data.fill_(1e30)
    assert "first the output of 1" in fit(lesson(module), settings(), seed=1).ended


def test_the_rate_rises_over_the_warm_up_and_halves_on_a_plateau():
    history = fit(lesson(plain()), settings(epochs=9, lr=1e-12, warmup=6, patience=2), seed=1)
    rates = [row["rate"] / 1e-12 for row in history.rows]  # of the next step after a pass of three
    assert rates == pytest.approx([4 / 6, 1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25])  # the third pass without gain halves


def test_a_cosine_falls_from_the_full_rate_to_nothing_whatever_the_validation_loss_does():
    given = settings(epochs=4, lr=0.5, warmup=2, patience=1, schedule="cosine", slices=11, batch=3)
    run = _Run(lesson(plain()), given, seed=1)
    rates = []
    for step in range(17):
        run.history.steps = step
        rates.append(run.rate())
    turn = 2 * torch.pi / 32  # half a turn over 4 passes of 4 steps
    wanted = [
        0.5 * min(1.0, (step + 1) / 2) * (0.5 + 0.5 * float(torch.tensor(step * turn).cos())) for step in range(17)
    ]
    assert rates == pytest.approx(wanted, abs=1e-7) and rates[-1] == 0
    history = fit(lesson(plain()), settings(epochs=4, lr=1e-12, patience=1, schedule="cosine"), seed=1)
    assert [row["rate"] / 1e-12 for row in history.rows] == pytest.approx([0.853553, 0.5, 0.146447, 0], abs=1e-6)


def test_training_ends_early_but_not_before_it_may():
    history = fit(lesson(plain()), settings(epochs=40, lr=1e-12, stop_after=3, stop_from=9), seed=1)
    assert len(history.rows) == 9 and history.ended == "no better for 3 passes"


def test_a_teacher_is_learned_from():
    alone, taught = net(), net()
    fit(lesson(alone), settings(epochs=8), seed=1)
    fit(
        lesson(taught, teacher=lambda images: 50 * torch.ones(len(images), 1, SIZE, SIZE)),
        settings(epochs=8, teacher_weight=20.0),
        seed=1,
    )
    images, _ = Blobs().plain(range(16))
    with torch.no_grad():
        assert taught(images).mean() > alone(images).mean() + 1


def test_a_pass_takes_every_slice_once():
    one = lesson(net())
    numbers = order(one, settings(), 1, 1)
    assert sorted(numbers) == list(range(12)) and numbers != order(one, settings(), 1, 2)
    assert numbers == order(one, settings(), 1, 1)


def test_a_short_pass_takes_some_and_a_share_of_them_is_positive():
    one = lesson(net())
    assert len(set(order(one, settings(slices=5), 1, 1))) == 5
    for epoch in range(1, 6):
        numbers = order(one, settings(slices=8, positive=0.75), 1, epoch)
        assert sum(one.slices.positive(n) for n in numbers) == 6 and len(numbers) == 8
    positives = [n for n in order(one, settings(slices=12, positive=1.0), 1, 1)]
    assert max(positives.count(n) for n in positives) == 2 and min(positives.count(n) for n in positives) == 1


def test_a_single_slice_left_over_joins_the_batch_before_it():
    assert [list(part) for part in batched(range(9), 4)] == [[0, 1, 2, 3], [4, 5, 6, 7, 8]]
    assert [len(part) for part in batched(range(10), 4)] == [4, 4, 2]
    assert [len(part) for part in batched(range(5), 4)] == [5] and [len(part) for part in batched(range(1), 4)] == [1]
    assert [len(part) for part in batched(range(3), 1)] == [1, 1, 1]


def test_batch_normalization_learns_where_a_pass_leaves_a_slice_over_and_is_refused_where_it_cannot():
    narrow = nn.Sequential(
        nn.Conv2d(3, 4, SIZE), nn.BatchNorm2d(4), nn.ConvTranspose2d(4, 1, SIZE)
    )  # one value per channel and slice
    nine = Lesson(narrow, Blobs(), range(9), range(12, 16))
    assert fit(nine, settings(epochs=2, batch=4), seed=1).steps == 4
    with pytest.raises(SettingsError, match=r"a step of 1 slice of 8 pixels .*two or more slices"):
        fit(nine, settings(epochs=1, batch=1), seed=1)


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(DataError, match="both are needed"):
        fit(Lesson(net(), Blobs(), [], [1]), settings(), seed=0)
    with pytest.raises(DataError, match="all of one kind"):
        fit(Lesson(net(), Blobs(), [1, 2, 3], [0]), settings(positive=0.5), seed=0)


def test_bf16_is_used_where_the_processor_has_it_and_said_where_it_is_not(monkeypatch, tmp_path):
    def trained(has: bool, folder=None):
        monkeypatch.setattr(_precision, "has_bf16", lambda device: has)
        seen, module = set(), plain()
        module.register_forward_hook(lambda m, args, out: seen.add(out.dtype))
        return seen, fit(lesson(module), settings(precision="bf16"), seed=1, folder=folder).ended

    seen, ended = trained(True)
    assert torch.bfloat16 in seen and "bf16" not in ended
    seen, ended = trained(False, tmp_path)
    assert seen == {torch.float32} and ended.endswith("; in fp32, as this processor has no bf16")
    assert trained(False, tmp_path)[1] == ended, "a run that had ended says it once"

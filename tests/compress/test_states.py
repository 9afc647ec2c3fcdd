"""States between blocks: what is put comes back, from memory and from a file alike."""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from netweight.compress._states import Held, Spilled
from netweight.errors import ResourceError

STATES = [torch.arange(12.0).reshape(3, 4), torch.ones(2, 5, dtype=torch.bfloat16), torch.empty(0, 4)]


@pytest.fixture(params=["memory", "file"])
def made(request, tmp_path):
    return (lambda s: Held(s)) if request.param == "memory" else (lambda s: Spilled(s, tmp_path))


def test_states_come_back_and_take_others_places(made):
    states = made(STATES)
    assert len(states) == 3
    assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(states, STATES, strict=True))
    states.put(0, torch.full((3, 4), 7.0))
    states.put(1, torch.zeros(6, 7))  # of another size and type
    assert torch.equal(states[0], torch.full((3, 4), 7.0))
    assert torch.equal(states[1], torch.zeros(6, 7))
    assert torch.equal(states[1:][0], torch.zeros(6, 7))
    assert states[-1].shape == (0, 4)
    assert torch.equal(STATES[0], torch.arange(12.0).reshape(3, 4))  # the giver's own stay as they were


def test_a_transposed_state_is_kept_by_its_values(made):
    turned = torch.arange(12.0).reshape(3, 4).T
    assert torch.equal(made([turned])[0], turned)


def test_threads_read_and_write_different_states(tmp_path):
    states = Spilled([torch.full((100, 100), float(i)) for i in range(16)], tmp_path)

    def change(number: int) -> bool:
        steps = 20
        for _ in range(steps):
            states.put(number, states[number] + 1)
        return bool((states[number] == number + steps).all())

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(change, range(16)))


def test_the_file_has_no_name_and_errors_are_readable(tmp_path, monkeypatch):
    states = Spilled(STATES, tmp_path)
    assert list(tmp_path.iterdir()) == []

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(ResourceError, match="No space left"):
        states.put(0, STATES[0])
    with pytest.raises(ResourceError, match="cannot be kept"):
        Spilled(STATES, tmp_path / "absent")

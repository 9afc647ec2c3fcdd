"""The parity gate computes as the simulation did: with one thread per operation, whatever the process is set to."""

from __future__ import annotations

from pathlib import Path

import torch

import netweight
from netweight import recipe as recipes
from netweight.jobs import _parity


def test_the_file_is_read_back_with_one_thread_per_operation(tmp_path: Path, tiny_folder: Path, monkeypatch):
    """GELU, for one, rounds differently at the seams between threads' shares: two threads here would fail a true file."""
    seen = []
    run_block = _parity.models.run_block

    def spy(*args, **kwargs):
        seen.append(torch.get_num_threads())
        return run_block(*args, **kwargs)

    monkeypatch.setattr(_parity.models, "run_block", spy)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        recipe = {"step": [{"use": "rtn", "format": "int4-g32"}]}
        netweight.compress(tiny_folder, recipes.load(recipe), out=tmp_path / "out", threads=2)
    finally:
        torch.set_num_threads(before)
    assert set(seen) == {1}

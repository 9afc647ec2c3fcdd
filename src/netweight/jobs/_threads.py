"""torch and the kernels on as many threads as are asked for, and afterwards as before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from netweight.errors import SettingsError
from netweight.runtime import kernels


@contextmanager
def both_on(threads: int) -> Iterator[int]:
    """The number of threads inside; 0 takes as many as torch does. Raises: SettingsError: a negative number."""
    if threads < 0:
        raise SettingsError(f"threads = {threads}: must be at least 1, or 0 for as many as torch takes")
    count = threads or torch.get_num_threads()
    native = kernels.missing() is None
    before = torch.get_num_threads(), kernels.threads() if native else 0
    torch.set_num_threads(count)
    if native:
        kernels.set_threads(count)
    try:
        yield count
    finally:
        torch.set_num_threads(before[0])
        if native:
            kernels.set_threads(before[1])

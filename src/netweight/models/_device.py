"""The device a user asks for by name."""

from __future__ import annotations

import re

import torch

from netweight.errors import SettingsError


def device(name: str) -> torch.device:
    """The one called "cpu", "cuda", or "cuda:1" (the second GPU). Raises: SettingsError: another name, or a GPU that is not there."""
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise SettingsError(f'device = {name!r}: "cpu", "cuda", or "cuda:1" for the second GPU')
    found = torch.device(name)
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        built = f"torch sees {torch.cuda.device_count()} GPUs" if torch.version.cuda else "this is a CPU build of torch"
        raise SettingsError(f"device = {name!r}: {built}; leave it out to train on the processor")
    return found

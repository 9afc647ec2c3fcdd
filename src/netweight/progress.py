"""How long work tells what it is doing. The command line shows a bar; a library call is silent unless it is given one."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called whenever a piece of work is finished."""

    def __call__(self, what: str, done: int, total: int, note: str = "") -> None:
        """``done`` of ``total`` pieces of ``what``; ``note`` names the piece just finished."""


def silent(what: str, done: int, total: int, note: str = "") -> None:
    """Show nothing."""

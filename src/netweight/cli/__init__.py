"""The command line, ``netweight VERB ...``: flags come from the verbs' signatures; added are words and exit codes.

``show`` and ``progress_bars`` let a script print what the command line prints.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from netweight.cli._main import main

if TYPE_CHECKING:
    from netweight.progress import Progress

__all__ = ["main", "progress_bars", "show"]


def show(value: Any) -> None:
    """Print what a verb returned, as the command line does."""
    from netweight.cli._render import show as render

    render(value)


def progress_bars() -> AbstractContextManager[Progress]:
    """A progress callback that draws on stderr while the context lasts."""
    from netweight.cli._progress import shown

    return shown(sys.stderr)

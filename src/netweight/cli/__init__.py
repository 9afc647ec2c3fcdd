"""The command line, ``netweight VERB ...``: flags come from the verbs' signatures; added are words and exit codes."""

from __future__ import annotations

from netweight.cli._main import main

__all__ = ["main"]

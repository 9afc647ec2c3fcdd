"""Counts and lists as messages and pages write them."""

from __future__ import annotations

from collections.abc import Iterable

SHOWN = 3


def counted(count: int, noun: str) -> str:
    """``"1 pass"``, ``"2 passes"``, ``"1,200 pixels"``."""
    ending = "" if count == 1 else "es" if noun.endswith("s") else "s"
    return f"{count:,} {noun}{ending}"


def some(names: Iterable[object], most: int = SHOWN) -> str:
    """The first of them: ``"a, b, c, ..."``."""
    listed = [str(name) for name in names]
    return ", ".join([*listed[:most], *(["..."] if len(listed) > most else [])])

"""How a measured number is written down: unit prefix, as many digits as its interval supports, and never a zero for "missing"."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

MISSING = "not measured"

_PREFIXES: dict[str, tuple[tuple[float, str], ...]] = {
    "bytes": ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "bytes")),
    "s": ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")),
    "J": ((1.0, "J"), (1e-3, "mJ"), (1e-6, "µJ")),
}
_ALIASES = {"B": "bytes", "byte": "bytes", "seconds": "s", "second": "s", "joules": "J", "joule": "J"}
_FRACTIONS = ("fraction", "share", "proportion")
SILENT_UNITS = ("", "1", "ratio", "dimensionless")  # units that say nothing to a reader


@dataclass(frozen=True)
class Scale:
    """Divide a number by ``factor`` to show it in ``unit``; differences of it are in ``difference_unit``."""

    factor: float
    unit: str
    difference_unit: str


def scale(unit: str, magnitude: float | None, *, metric: str = "") -> Scale:
    """The prefix that suits a number of this size: 269060000 bytes are shown in MB, a fraction in percent (and its
    differences in percentage points)."""
    name = _ALIASES.get(unit, unit)
    if name in _FRACTIONS:
        return Scale(0.01, "%", "points")
    if name in _PREFIXES:
        size = abs(magnitude) if magnitude is not None and math.isfinite(magnitude) else 0.0
        factor, shown = next(
            (p for p in _PREFIXES[name] if size >= p[0]), _PREFIXES[name][0 if name != "bytes" else -1]
        )
        return Scale(factor, shown, shown)
    shown = "" if name in SILENT_UNITS or name == metric else name
    return Scale(1.0, shown, shown)


def decimals(low: float | None, high: float | None) -> int | None:
    """Places that show two significant digits of half the interval; None where there is no interval to go by."""
    if low is None or high is None or not math.isfinite(high - low) or high <= low:
        return None
    return min(9, max(0, 1 - math.floor(math.log10((high - low) / 2))))


def shared_decimals(intervals: Sequence[tuple[float | None, float | None]]) -> int | None:
    """Places for numbers that stand side by side; None where none of them has an interval to go by.

    The narrowest interval decides, but no more than four significant digits of the largest number are shown unless two
    ends would then read alike: 31.91 stands beside 13.33, and an interval with a width never reads as one without.
    """
    wanted = [places for low, high in intervals if (places := decimals(low, high)) is not None]
    if not wanted:
        return None
    ends = [
        (low, high) for low, high in intervals if low is not None and high is not None and math.isfinite(high - low)
    ]
    largest = max(abs(end) for pair in ends for end in pair)
    places = min(max(wanted), max(0, 3 - math.floor(math.log10(largest))))
    while places < max(wanted) and any(low < high and _alike(low, high, places) for low, high in ends):
        places += 1
    return places


def _alike(low: float, high: float, places: int) -> bool:
    return number(low, places) == number(high, places)


def number(value: float | None, places: int | None = None, *, signed: bool = False) -> str:
    """Decimal text with a true minus sign; without ``places``, four significant digits, and whole numbers stay whole."""
    if value is None:
        return MISSING
    if not math.isfinite(value):
        return "not finite"
    if places is None and float(value).is_integer() and abs(value) < 1e15:
        text = f"{int(value):,d}"
    elif places is None and 0 < abs(value) < 1e-4:
        text = f"{value:.2e}"
    else:
        text = f"{value:,.{places}f}" if places is not None else _four_digits(value)
    if float(text.replace(",", "")) == 0:
        text = text.lstrip("-")
    elif signed and value > 0:
        text = "+" + text
    return text.replace("-", "−") if "e" not in text else text


def quantity(value: float | None, unit: str, *, metric: str = "") -> str:
    """A number with its unit, by itself: ``quantity(269060000, "bytes")`` is "269.1 MB"."""
    if value is None:
        return MISSING
    shown = scale(unit, value, metric=metric)
    return with_unit(number(value / shown.factor), shown.unit)


def percent(share: float) -> str:
    """A share of 1 in percent; a share above zero never reads as zero, and below one never as one."""
    if 0 < share < 1e-4:
        return "under 0.01 %"
    if 1 - 1e-4 < share < 1:
        return "over 99.99 %"
    return with_unit(number(share * 100, 0 if share in (0, 1) else 2 if share < 0.1 else 1), "%")


def with_unit(text: str, unit: str) -> str:
    """Number and unit, kept on one line."""
    return f"{text}\u00a0{unit}" if unit and text not in (MISSING, "not finite") else text


def visible(text: str) -> str:
    """The text with control and text-direction characters spelled out, so that no name can disguise itself.

    Newlines and tabs stay.
    """
    hidden = {c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co") and c not in "\n\t"}
    return "".join(f"\\u{ord(c):04x}" if c in hidden else c for c in text)


def short_hash(sha256: str | None) -> str:
    """The first 12 digits, enough to compare by eye."""
    return sha256[:12] if sha256 else "not recorded"


def _four_digits(value: float) -> str:
    places = 0 if value == 0 else max(0, 3 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{places}f}"
    return text.rstrip("0").rstrip(".") if places else text


def duration(seconds: float) -> str:
    """Seconds, or minutes and hours where that reads better: ``duration(132.4)`` is "2 min 12 s"."""
    if not seconds >= 120 or math.isinf(seconds):
        return quantity(seconds, "s")
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}\u00a0h {minutes}\u00a0min" if hours else f"{minutes}\u00a0min {rest}\u00a0s"

"""Numbers are written with the digits they deserve."""

from __future__ import annotations

import math

import pytest

from netweight.evidence._numbers import decimals, duration, number, percent, quantity, shared_decimals, visible


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [
        (269_060_552, "B", "269.1 MB"), (999, "bytes", "999 bytes"), (0, "bytes", "0 bytes"), (2.5e9, "B", "2.5 GB"),
        (0.0412, "s", "41.2 ms"), (3e-6, "s", "3 µs"), (12.0, "s", "12 s"), (0.428, "fraction", "42.8 %"),
        (4.5, "bits/weight", "4.5 bits/weight"), (19.834567, "1", "19.83"), (0.00001234, "nat/token", "1.23e-05 nat/token"),
        (None, "B", "not measured"), (math.nan, "B", "not finite"),
    ],
)  # fmt: skip
def test_a_quantity_gets_a_readable_unit(value: float | None, unit: str, words: str):
    assert quantity(value, unit).replace("\u00a0", " ") == words


def test_an_interval_decides_how_many_digits_a_value_has():
    assert decimals(18.97, 20.74) == 2  # half width 0.885: two digits of it
    assert decimals(100, 300) == 0
    assert decimals(0.4102, 0.4154) == 4
    assert decimals(None, 1.0) is None
    assert decimals(1.0, 1.0) is None


@pytest.mark.parametrize(
    ("intervals", "places", "why"),
    [
        ([(0.69, 0.91), (0.928, 1.068), (1.3, 8.5)], 3, "the narrowest, of half a width of 0.07, has 3"),
        ([(12.97, 14.01), (31.86, 31.94)], 2, "31.94 has four significant digits with 2"),
        ([(6.0, 9.7), (152.0, 198.2), (0.0, 0.0)], 1, "what has no width does not decide"),
        ([(31.8612, 31.8634), (1.0, 3.0)], 3, "with 2 an interval with a width would read as one without"),
        ([(0.0, 0.0), (None, None)], None, "nothing to go by"),
        ([(1.0, math.inf), (1.0, 3.0)], 1, "an end that is not finite does not decide"),
        ([], None, "nothing at all"),
    ],
)
def test_numbers_side_by_side_have_equally_many_decimals(
    intervals: list[tuple[float | None, float | None]], places: int | None, why: str
):
    assert shared_decimals(intervals) == places, why


def test_a_sign_is_shown_on_request_and_zero_has_none():
    assert number(0.62, 2, signed=True) == "+0.62"
    assert number(-0.62, 2, signed=True) == "−0.62"
    assert number(-0.001, 2, signed=True) == "0.00"


def test_a_share_above_zero_never_reads_as_zero():
    assert percent(0) == "0\u00a0%"
    assert percent(1e-9) == "under 0.01 %"
    assert percent(0.99999) == "over 99.99 %"
    assert percent(1.0) == "100\u00a0%"


def test_long_times_are_in_minutes_and_hours():
    assert duration(132.4).replace("\u00a0", " ") == "2 min 12 s"
    assert duration(7260).replace("\u00a0", " ") == "2 h 1 min"
    assert duration(math.nan) == "not finite"


def test_characters_that_hide_or_turn_text_are_spelled_out():
    assert visible("a\u202eb\x00c\td\n") == "a\\u202eb\\u0000c\td\n"
    assert visible("Größe 模型 😀") == "Größe 模型 😀"

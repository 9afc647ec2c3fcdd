"""Tables say what the values hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from netweight.claim import Claim, Comparison
from netweight.cli import _render
from netweight.jobs.weigh import Part, Projection, Weighing
from netweight.ledger import Ledger, Row


def shown(capsys, value) -> str:
    _render.show(value)
    return capsys.readouterr().out


CLAIM = Claim("perplexity", 23.61, "per token", 40, 22.5, 24.75, "BCa bootstrap over documents", "tiny", "ab12")


def test_a_claim_is_shown_with_interval_and_unit(capsys):
    text = shown(capsys, [CLAIM])
    assert "23.61" in text and "(22.5 to 24.75)" in text and "per token" in text


def test_a_comparison_is_shown_with_its_verdict(capsys):
    against = Comparison("original", 0.031, -0.01, 0.072, margin=0.1, verdict="non-inferior")
    text = shown(capsys, replace(CLAIM, comparison=against))
    assert "+0.031 (-0.01 to 0.072)" in text and "non-inferior" in text


def test_what_was_not_measured_is_not_shown_as_if_it_were(capsys):
    row = replace(CLAIM, metric="energy", value=None, low=None, high=None, provenance="unavailable")
    assert "– (unavailable)" in shown(capsys, row)


def test_a_ledger_says_why_a_layer_was_left(capsys):
    rows = (
        Row(
            "a.up",
            "linear",
            (4, 8),
            "quantized",
            format="int4-g64",
            bytes_before=64,
            bytes_after=20,
            weight_error=0.0912,
        ),
        Row("head", "linear", (4, 8), "left", bytes_before=64, bytes_after=64, reason="skip pattern 'head'"),
    )
    text = shown(capsys, Ledger(rows))
    assert "0.0912" in text and "skip pattern 'head'" in text and "128 B before, 84 B after" in text


def test_a_weighing_shows_shares_ties_projections_and_warnings(capsys):
    part = Part("blocks.*.up", "linear", 2, (8, 64), 1024, 750, "Q4_1", True)
    weighing = Weighing(
        "tiny",
        2048,
        1000,
        (part,),
        (("head", "embed"),),
        (Projection("nvfp4", 650, 4.5, 2, ("x",)),),
        ("mind the grid",),
    )
    text = shown(capsys, weighing)
    for piece in ("75.0%", "8 × 64", "head shares its weight with embed", "4.500", "65.0%", "warning: mind the grid"):
        assert piece in text


def test_square_brackets_of_a_name_are_not_markup(capsys):
    assert "[bold]x" in shown(capsys, Ledger((Row("[bold]x", "linear", (1, 1), "left"),)))


def test_pieces_of_text_are_written_as_they_come(capsys):
    assert shown(capsys, iter(["Once ", "upon"])) == "Once upon\n"


def test_a_file_that_was_written_is_named(capsys):
    assert shown(capsys, Path("d/report.html")) == "wrote d/report.html\n"


def test_nothing_is_shown_of_nothing(capsys):
    assert shown(capsys, None) == ""


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (92_900_000, "92.9 MB"), (999_600_000, "1 GB")]
)
def test_sizes_are_in_decimal_units(count, text):
    assert _render.size(count) == text

"""The verdict table, in words: as cells, in the terminal, as Markdown."""

from __future__ import annotations

import io
from dataclasses import replace
from types import SimpleNamespace

import pytest
from rich.console import Console

from netweight.claim import Claim
from netweight.evidence._input import ReportInput, bits_per_weight, claims_by_subject
from netweight.evidence._table import VerdictTable, summary_markdown, summary_table, verdict_table
from netweight.evidence._words import claim_cell
from netweight.ledger import Ledger


def table_of(inputs: list[ReportInput]) -> VerdictTable:
    return verdict_table(claims_by_subject(inputs))


Build = SimpleNamespace


def compared(
    build: Build, difference: float, low: float, high: float, margin: float | None, verdict: str | None, **more
) -> str:
    given = build.claim("perplexity", 20.0, 0.5, "1", "a", "wikitext2/test", **more)
    return claim_cell(
        replace(given, comparison=build.against(difference, low, high, margin, verdict)), original=build.original
    ).verdict


@pytest.mark.parametrize(
    ("interval", "margin", "verdict", "words"),
    [
        ((0.62, 0.50, 0.74), 1.0, "non-inferior", "non-inferior: at most 0.74 worse, margin 1"),
        ((-0.4, -0.5, -0.3), 1.0, "non-inferior", "non-inferior: at least 0.30 better, margin 1"),
        ((2.9, 2.3, 3.5), 1.0, "inferior", "inferior: at least 2.30 worse, margin 1"),
        ((1.4, 0.9, 2.3), 1.0, "undecided", "undecided: up to 2.30 worse, margin 1"),
        ((0.6, 0.5, 0.7), None, None, "worse; no margin stated"),
        ((-0.6, -0.7, -0.5), None, None, "better; no margin stated"),
        ((0.1, -0.5, 0.7), None, None, "no clear difference; no margin stated"),
    ],
)
def test_a_verdict_is_put_in_words(
    build: Build, interval: tuple[float, float, float], margin: float | None, verdict: str | None, words: str
):
    found = compared(build, *interval, margin, verdict)
    assert found.replace("2.3 ", "2.30 ") == words


def test_a_stated_verdict_that_its_interval_contradicts_is_called_out(build: Build):
    found = compared(build, 1.4, 0.9, 2.3, 1.0, "non-inferior")
    assert found == "non-inferior is stated, but the interval and margin 1 say undecided"


def test_where_higher_is_better_worse_means_lower(build: Build):
    found = compared(build, -0.3, -0.4, -0.2, 0.5, "non-inferior", better="higher")
    assert found == "non-inferior: at most 0.40 worse, margin 0.5"


def test_where_neither_is_better_the_size_of_the_change_counts(build: Build):
    assert compared(build, -3.0, -4.0, -2.0, 1.0, "inferior", better="neither").startswith(
        "inferior: at least 2.0 worse"
    )


def test_the_original_stands_first_and_sizes_come_before_scores(two_artifacts: list[ReportInput]):
    table = table_of(two_artifacts)
    assert table.subjects == ("Original", "NVFP4", "3 bits, groups of 64")
    assert [row.label for row in table.rows[:3]] == ["size on disk", "bits per weight", "perplexity"]
    assert [cell.difference for cell in table.rows[0].cells] == ["", "2.30× smaller", "2.68× smaller"]


def test_sizes_come_from_the_manifest_where_no_claim_states_them(two_artifacts: list[ReportInput]):
    bare = replace(two_artifacts[0], claims=[])
    assert [cell.value.replace("\u00a0", " ") for cell in table_of([bare]).rows[0].cells] == ["269.1 MB", "117 MB"]


def test_a_size_from_the_manifest_shares_its_row_with_a_size_from_a_claim(two_artifacts: list[ReportInput]):
    own = [
        c for c in two_artifacts[0].claims if c.subject == two_artifacts[0].name
    ]  # the original's size is not claimed
    rows = [row for row in table_of([replace(two_artifacts[0], claims=own)]).rows if row.label == "size on disk"]
    assert [cell.difference for cell in rows[0].cells] == ["", "2.30× smaller"]
    assert len(rows) == 1


def test_a_tied_weight_counts_once_in_the_bits_per_weight(two_artifacts: list[ReportInput]):
    ledger = two_artifacts[0].ledger
    stored = sum(row.bytes_after for row in ledger if not row.tied_to)
    weights = sum(row.shape[0] * row.shape[1] for row in ledger if not row.tied_to)
    assert bits_per_weight(ledger) == stored * 8 / weights
    assert bits_per_weight(ledger, before=True) == 16


def test_an_unknown_size_makes_the_bits_per_weight_unknown(two_artifacts: list[ReportInput]):
    first, *rest = two_artifacts[0].ledger
    assert bits_per_weight([replace(first, bytes_after=0), *rest]) is None
    assert bits_per_weight(Ledger()) is None


def test_batch_size_and_other_settings_of_the_run_do_not_keep_claims_apart(two_artifacts: list[ReportInput]):
    first = two_artifacts[0]
    rows = len(table_of([first]).rows)
    slower = [
        replace(c, settings=c.settings | {"run": {"batch_size": 1}}) if c.subject == first.name else c
        for c in first.claims
    ]
    assert len(table_of([replace(first, claims=slower)]).rows) == rows


def test_rows_that_differ_in_a_setting_say_which(two_artifacts: list[ReportInput]):
    first = two_artifacts[0]
    wide = [replace(c, settings=c.settings | {"window": 2048}) for c in first.claims if c.metric == "perplexity"]
    details = [row.detail for row in table_of([replace(first, claims=[*first.claims, *wide])]).rows]
    assert "wikitext2/test, lower is better, window 512" in details
    assert "wikitext2/test, lower is better, window 2048" in details


def test_a_number_with_no_interval_that_is_not_exact_is_not_called_exact(build: Build):
    why = "none: 1 documents, and an interval needs at least 2"
    lonely = build.claim("perplexity", 20.0, None, "1", "a", "wikitext2/test", interval=why)
    assert claim_cell(lonely).interval == "no interval"
    assert claim_cell(build.claim("bytes_on_disk", 10, None, "B", "a")).interval == "exact"


def test_a_divergence_from_the_original_has_no_cell_of_the_original_to_be_zero(two_artifacts: list[ReportInput]):
    row = next(row for row in table_of(two_artifacts).rows if row.label == "KL divergence")
    assert row.cells[0].value == "the reference itself"
    assert row.cells[1].verdict == ""


def test_a_comparison_with_something_else_than_the_original_names_it(build: Build):
    given = build.claim(
        "perplexity", 20.0, 0.5, "1", "a", comparison=replace(build.against(0.5, 0.4, 0.6, None), reference="peer")
    )
    assert claim_cell(given, original=build.original).difference.endswith("against peer")


def test_decimals_of_a_row_are_shared_on_request(build: Build):
    narrow = build.claim(
        "accuracy", 0.0097, 0.0007, "fraction", "b", comparison=build.against(0.001, 0.0008, 0.0012, None)
    )
    wide = build.claim("accuracy", 0.033, 0.03, "fraction", "a")
    own, shared = (verdict_table({"a": [wide], "b": [narrow]}, decimals=how).rows[0].cells for how in ("own", "shared"))
    assert [cell.value for cell in own] == ["3.3\u00a0%", "0.970\u00a0%"]
    assert [cell.value for cell in shared] == ["3.300\u00a0%", "0.970\u00a0%"]
    assert "+0.100\u00a0points (+0.080 to +0.120)" in shared[1].difference


def test_decimals_are_not_shared_by_numbers_of_different_prefixes(build: Build):
    claims = {
        "a": [build.claim("latency", 0.0412, 0.0013, "s", "a")],
        "b": [build.claim("latency", 1.2, 0.2, "s", "b")],
    }
    cells = verdict_table(claims, decimals="shared").rows[0].cells
    assert [cell.value.replace("\u00a0", " ") for cell in cells] == ["41.2 ms", "1.20 s"]


def test_the_terminal_shows_names_literally(build: Build):
    console = Console(file=io.StringIO(), width=160, color_system=None)
    console.print(summary_table({"[red]Original": [build.claim("perplexity", 19.8, 0.9, "1", "o")], "b": []}))
    shown = console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
    assert "[red]Original" in shown
    assert "not measured" in shown


def test_terminal_and_markdown_show_every_cell_of_the_table(two_artifacts: list[ReportInput]):
    claims = claims_by_subject(two_artifacts)
    console = Console(file=io.StringIO(), width=400, color_system=None)
    console.print(summary_table(claims))
    terminal, markdown = console.file.getvalue(), summary_markdown(claims)  # pyright: ignore[reportAttributeAccessIssue]
    for row in verdict_table(claims).rows:
        for cell in row.cells:
            for line in cell.lines():
                assert line in terminal
                assert line in markdown


def test_markdown_has_as_many_cells_in_every_line_whatever_the_names(build: Build):
    hostile: list[Claim] = [build.claim("a|b\n*c* <b>", 1.5, 0.5, "x|y", "o", note="n")]
    lines = summary_markdown({"o|p": hostile, "q`r": []}).splitlines()
    assert len(lines) == 3
    assert {len(line.replace("\\|", "").split("|")) for line in lines} == {5}
    assert "<b>" not in lines[2]
    assert "\\*c\\*" in lines[2]

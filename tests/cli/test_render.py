"""Tables say what the values hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from netweight.claim import Claim, Comparison
from netweight.cli import _render
from netweight.jobs.study import Findings
from netweight.jobs.weigh import Part, Projection, Weighing
from netweight.ledger import Ledger, Row
from netweight.study import Recovery


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


LEDGER = Ledger(
    (
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
)


def test_a_ledger_says_why_a_layer_was_left(capsys):
    text = shown(capsys, LEDGER)
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


@dataclass(frozen=True)
class Estimate:
    seconds: float = 200.0
    peak_bytes: int = 2_500_000_000
    disk_bytes: int = 90_000_000


@dataclass(frozen=True)
class DryRun:
    ledger: Ledger = LEDGER
    estimate: Estimate = Estimate()
    bytes_before: int = 128
    bytes_after: int = 84
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Manifest:
    bytes: dict[str, int]
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Artifact:
    path: Path
    manifest: Manifest
    ledger: Ledger
    run: dict[str, float]


def test_a_dry_run_says_what_it_would_take(capsys):
    text = shown(capsys, DryRun())
    for piece in ("1.52 times smaller", "3 min 20 s", "2.5 GB of memory", "90 MB of disk", "nothing was written"):
        assert piece in text
    assert _render.exit_code(DryRun()) == 0


def test_a_dry_run_with_problems_says_so_and_exits_with_three(capsys):
    plan = DryRun(problems=("only pattern 'x' matches no layer",))
    assert "problem: only pattern 'x'" in shown(capsys, plan)
    assert _render.exit_code(plan) == 3


def test_an_artifact_is_summed_up_by_format(capsys):
    made = Artifact(Path("d/out"), Manifest({"before": 300, "after": 100}, ("one layer",)), LEDGER, {})
    text = shown(capsys, made)
    for piece in ("d/out", "int4-g64", "3.00 times smaller", "left undone: one layer"):
        assert piece in text


def test_an_artifact_without_errors_measured_shows_dashes(capsys):
    rows = (Row("a", "linear", (4, 8), "quantized", format="nf4"),)
    text = shown(
        capsys, Artifact(Path("d"), Manifest({"before": 2, "after": 1}), Ledger(rows), {"seconds": 5, "peak_bytes": 1})
    )
    assert "–" in text and "took 5.0 s" in text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.25, "0.2 s"), (12.4, "12 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")]
)
def test_durations_are_read_at_a_glance(seconds, text):
    assert _render.duration(seconds) == text


def test_square_brackets_of_a_name_are_not_markup(capsys):
    assert "[bold]x" in shown(capsys, Ledger((Row("[bold]x", "linear", (1, 1), "left"),)))


def test_pieces_of_text_are_written_as_they_come(capsys):
    assert shown(capsys, iter(["Once ", "upon"])) == "Once upon\n"


class Generation(Iterator[str]):
    path = "30 layers are decoded once"

    def __init__(self):
        self._pieces = iter(["Once ", "upon"])

    def __next__(self) -> str:
        return next(self._pieces)


def test_how_layers_are_computed_is_said_apart_from_the_text(capsys):
    _render.show(Generation())
    assert capsys.readouterr() == ("Once upon\n", "30 layers are decoded once\n")


@dataclass(frozen=True)
class Check:
    what: str
    status: str
    detail: str


@dataclass(frozen=True)
class Verification:
    artifact: str
    checks: tuple[Check, ...]


def test_a_verification_says_what_holds_and_what_nobody_looked_at(capsys):
    checks = (Check("7 files", "holds", "hashes equal"), Check("latency", "not checked", "it depends on the machine"))
    text = shown(capsys, Verification("d/out", checks))
    assert "holds" in text and "7 files" in text and "not checked" in text and "d/out" in text


def test_a_file_that_was_written_is_named(capsys):
    assert shown(capsys, Path("d/report.html")) == "wrote d/report.html\n"


def test_nothing_is_shown_of_nothing(capsys):
    assert shown(capsys, None) == ""


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (92_900_000, "92.9 MB"), (999_600_000, "1 GB")]
)
def test_sizes_are_in_decimal_units(count, text):
    assert _render.size(count) == text


def test_a_study_shows_every_comparison_in_a_narrow_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    row = Recovery(
        "omniquant", "hybrid", "perplexity", 5, 539.3, 487.4, 249.1, 51.89, 10.69, 93.08, 0.0625, 0.5,
        0.179, 0.131, None, 3, "confirmed", adjusted_t_p=0.125,
    )  # fmt: skip
    cells = ({"loss": "base", "seed": 0, "key": "a"}, {"loss": "hybrid", "seed": 0, "key": "b", "failure": "it died"})
    text = shown(capsys, Findings("sw", {"perplexity": 249.1}, cells, (row,), "base", Path("out")))
    for said in (
        "sw: 1 of 2 cells done", "failed: hybrid, 0: it died", "omniquant: hybrid against base, perplexity",
        "249.1 original, 539.3 base, 487.4 hybrid", "51.89 (10.69 to 93.08) over 5 seeds, p 0.125",
        "17.9 % (13.1 % to unbounded) of what base lost", "confirmed", "3 seeds", "study.json",
    ):  # fmt: skip
        assert said in text

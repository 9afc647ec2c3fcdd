"""The report of training runs: one HTML file that shows what was trained, how well it finds, and what it missed.

It needs no network and no script, and is the same bytes for the same inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from markupsafe import Markup

from netweight.evidence import _page, _plots, _run_page, _run_plots
from netweight.evidence._overlay import FOUND, THRESHOLD, Gallery
from netweight.evidence._report import templates, written
from netweight.evidence._run_input import ROLES, Looked, RunInput, check, claims_by_heading
from netweight.evidence._run_layers import layers
from netweight.evidence._svg import SERIES
from netweight.evidence._table import VerdictTable, key_of, verdict_table


def run_report(runs: Sequence[RunInput], galleries: Sequence[Gallery], out: Path) -> Path:
    """Write one page about training runs; an existing file is replaced in one go.

    Args:
      runs: the first is the reference of those that share its test slices.
      galleries: pictures of test slices, one for each group of runs that share them.
      out: the file to write, usually ``report.html``.
    Returns:
      ``out``.
    Raises:
      EvidenceError: no run, two of one name, or no such folder.
    """
    check(runs)
    return written(Path(out), html(runs, galleries))


def html(runs: Sequence[RunInput], galleries: Sequence[Gallery] = ()) -> str:
    """The page as text."""
    claims = claims_by_heading(runs)
    titles = tuple(claims)
    first, others = _tables(claims)
    known = _page.environments_of([claim for run in runs for claim in run.claims])
    looked = {title: (n, run.looked) for n, (title, run) in enumerate(zip(titles, runs, strict=True)) if run.looked}
    sections = {
        "heading": titles[0] if len(runs) == 1 else f"{len(runs)} runs",
        "reference": titles[0],
        "many": len(runs) > 1,
        "sources": ", ".join(dict.fromkeys(str(run.training["data"].get("source") or "unnamed data") for run in runs)),
        "phantom": _run_page.phantoms(runs, titles),
        "cards": _run_page.cards(runs, titles, first),
        "splits": _run_page.splits(runs, titles),
        "table": first,
        "others": others,
        "remarks": _run_page.remarks(runs),
        "notes": [(title, note) for title, view in zip(titles, _run_page.views(runs, titles), strict=True) for note in view.notes],
        "galleries": galleries,
        "threshold": THRESHOLD,
        "least_found": FOUND,
        "histories": _histories(runs, titles),
        "layers": layers(runs, titles),
        "rounding": _rounding(looked),
        "roles": _roles(runs),
        "slices_looked": sorted({found.slices for _, found in looked.values()}),
        "attention": Markup(_run_plots.attention_plot(looked, "attention")),
        "attentive": [one for one in _plots.legend(titles) if one.subject in looked and looked[one.subject][1].attention],
        "oscillating": [(t, words) for t, run in zip(titles, runs, strict=True) if (words := _run_page.oscillating(run))],
        "runs": _run_page.views(runs, titles),
        "claims": _page.claim_views(claims, titles[0], known),
        "environments": known,
    }  # fmt: skip
    return templates().get_template("runs.html").render(sections)


def _tables(claims) -> tuple[VerdictTable, VerdictTable]:
    """The measures that decide, in their order, and all others."""
    place = {metric: n for n, metric in enumerate(_run_page.PRIMARY)}
    chosen, rest = (
        {
            title: sorted((c for c in found if (c.metric in place) is primary), key=lambda c: place.get(c.metric, 0))
            for title, found in claims.items()
        }
        for primary in (True, False)
    )
    return _ordered(chosen, place), verdict_table(rest)


def _ordered(claims, place: dict[str, int]) -> VerdictTable:
    """Rows in the order of the measures, also where a run that comes later is the only one that has one."""
    table = verdict_table(claims)
    keys = list(dict.fromkeys(key_of(claim) for found in claims.values() for claim in found))
    rows = sorted(zip(keys, table.rows, strict=True), key=lambda pair: place.get(pair[0][0], 0))
    return replace(table, rows=tuple(row for _, row in rows))


def _histories(runs: Sequence[RunInput], titles: Sequence[str]) -> list[tuple[str, Markup, str]]:
    return [
        (title, Markup(_run_plots.history_plot(title, run.training["history"], f"history-{n}")), str(run.training["history"].get("ended") or ""))
        for n, (title, run) in enumerate(zip(titles, runs, strict=True))
    ]  # fmt: skip


def _rounding(looked: dict[str, tuple[int, Looked]]) -> list[tuple[str, list[Markup]]]:
    found = [(title, [Markup(svg) for svg in _run_plots.rounding_plots(title, one, f"rounding-{n}")]) for title, (n, one) in looked.items()]  # fmt: skip
    return [(title, plots) for title, plots in found if plots]


def _roles(runs: Sequence[RunInput]) -> list[tuple[str, int, str]]:
    """Sign, colour and words of every operand that was looked at."""
    there = {row["role"] for run in runs if run.looked for row in run.looked.rounding}
    return [(_plots.SIGNS[n % len(_plots.SIGNS)], n % len(SERIES), words) for n, (role, words) in enumerate(ROLES.items(), 1) if role in there]  # fmt: skip

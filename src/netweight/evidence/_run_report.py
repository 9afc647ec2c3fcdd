"""The report of training runs: one HTML file that shows what was trained, how well it finds, and what it missed.

It needs no network and no script, and is the same bytes for the same inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from netweight.evidence import _page, _plots, _run_page, _run_plots
from netweight.evidence._overlay import FOUND, THRESHOLD, Gallery
from netweight.evidence._report import templates, written
from netweight.evidence._run_input import ROLES, Looked, RunInput, check, headings
from netweight.evidence._run_layers import layers
from netweight.evidence._run_tested import pairing, remarks, tested
from netweight.evidence._svg import SERIES


def run_report(runs: Sequence[RunInput], galleries: Sequence[Gallery], out: Path) -> Path:
    """Write one page about training runs; an existing file is replaced in one go.

    Args:
      runs: in the order of their columns.
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
    titles = headings([(run.name, run.title) for run in runs])
    claims = {title: run.claims for title, run in zip(titles, runs, strict=True)}
    sets = tested(runs, titles)
    references = [one.reference for one in sets if one.reference]
    views = _run_page.views(runs, titles)
    known = _page.environments_of([claim for run in runs for claim in run.claims])
    looked = {title: (n, run.looked) for n, (title, run) in enumerate(zip(titles, runs, strict=True)) if run.looked}
    sections = {
        "heading": titles[0] if len(runs) == 1 else f"{len(runs)} runs",
        "references": references,
        "many": len(runs) > 1,
        "pairing": pairing(sets, titles),
        "sources": ", ".join(dict.fromkeys(str(run.training["data"].get("source") or "unnamed data") for run in runs)),
        "phantom": _run_page.phantoms(runs, titles),
        "cards": _run_page.cards(runs, titles, sets),
        "splits": _run_page.splits(runs, titles),
        "tested": sets,
        "remarks": remarks(sets),
        "notes": _run_page.notes(views),
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
        "runs": views,
        "claims": _page.claim_views(claims, references[0] if len(sets) == len(references) == 1 else "", known),
        "environments": known,
    }  # fmt: skip
    return templates().get_template("runs.html").render(sections)


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

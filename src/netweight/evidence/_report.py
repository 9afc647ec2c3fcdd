"""The report: one HTML file that shows what a compression cost, with the evidence for every number in it.

It needs no network and no script, and is the same bytes for the same inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from netweight.errors import EvidenceError
from netweight.evidence import _ledger_view, _page, _plots
from netweight.evidence._disjoint import disjoint
from netweight.evidence._input import ReportInput, check, claims_by_subject, headings, original_name
from netweight.evidence._numbers import short_hash, visible
from netweight.evidence._table import verdict_table
from netweight.files import write_atomically

__all__ = ["ReportInput", "claims_by_subject", "report"]


def report(inputs: Sequence[ReportInput], out: Path) -> Path:
    """Write one page about one original and its artifacts; an existing file is replaced in one go.

    Args:
      inputs: one entry per artifact, all of the same original.
      out: the file to write, usually ``report.html``.
    Returns:
      ``out``.
    Raises:
      EvidenceError: no artifact, two of one name, artifacts of different originals, or no such folder.
    """
    check(inputs)
    return written(Path(out), html(inputs))


def written(out: Path, text: str) -> Path:
    """The page in its file. Raises: EvidenceError: no such folder."""
    if not out.parent.is_dir():
        raise EvidenceError(f"{out}: the folder {out.parent} does not exist; create it first, or choose another place")
    write_atomically(out, text)
    return out


def html(inputs: Sequence[ReportInput]) -> str:
    """The page as text."""
    claims = claims_by_subject(inputs)
    table = verdict_table(claims)
    shown = headings(inputs)
    legend = _plots.legend(table.subjects)
    numbers = {subject: number for number, subject in enumerate(table.subjects)}
    errors = _plots.error_plots({shown[i.name]: i.ledger for i in inputs}, numbers)
    sections = {
        "model": original_name(inputs),
        "model_hash": short_hash((inputs[0].manifest.get("model") or {}).get("sha256")),
        "cards": _page.cards(inputs, table),
        "disjoint": disjoint(inputs),
        "table": table,
        "quality_plots": [Markup(svg) for svg in _plots.quality_plots(claims)],
        "error_plots": [Markup(svg) for svg in errors],
        "legend": legend,
        "error_legend": [entry for entry in legend if entry.subject in shown.values()],
        "ledgers": _ledger_view.ledgers(inputs),
        "claims": _page.claims(inputs),
        "environments": _page.environments(inputs),
        "artifacts": _page.artifacts(inputs),
    }
    return templates().get_template("report.html").render(sections)


def templates() -> jinja2.Environment:
    """Where pages are made: what a template does not know is an error, and no text of others is taken for markup."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("netweight.evidence"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )


def _shown(value: Any) -> Any:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value

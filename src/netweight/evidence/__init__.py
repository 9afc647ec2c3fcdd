"""Evidence: the reports that show what a compression cost, and what a training run found and missed."""

from netweight.evidence._input import ReportInput
from netweight.evidence._overlay import Gallery, gallery
from netweight.evidence._report import report
from netweight.evidence._run_input import Looked, RunInput, headings
from netweight.evidence._run_report import run_report
from netweight.evidence._table import summary_markdown, summary_table

__all__ = [
    "Gallery",
    "Looked",
    "ReportInput",
    "RunInput",
    "gallery",
    "headings",
    "report",
    "run_report",
    "summary_markdown",
    "summary_table",
]

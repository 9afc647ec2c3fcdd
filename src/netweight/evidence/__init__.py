"""Evidence: the report that shows what a compression cost."""

from netweight.evidence._input import ReportInput
from netweight.evidence._report import report
from netweight.evidence._table import summary_markdown, summary_table

__all__ = ["ReportInput", "report", "summary_markdown", "summary_table"]

"""The report of a run: one page that works from a file, and the front as a table of numbers."""

from typing import TYPE_CHECKING

from spaces.lazy import lazily

if TYPE_CHECKING:
    from search.report.writing import write_report

__all__ = ["write_report"]

__getattr__ = lazily(__name__, {"write_report": "search.report.writing"})  # plotly and all figures

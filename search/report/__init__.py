"""The report of a run: one page that works from a file, and the front as a table of numbers."""

from search.report.writing import write_report

__all__ = ["write_report"]

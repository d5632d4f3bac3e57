"""Report on one image: a single HTML file to archive, send or print, or its PDF."""

from shpeft.reports.html import report
from shpeft.reports.pdf import as_pdf

__all__ = ["as_pdf", "report"]

"""A report on one image: one HTML file to keep, to send and to print, or the PDF that it prints as."""

from shpeft.reports.making import report
from shpeft.reports.pdf import as_pdf

__all__ = ["as_pdf", "report"]

"""A report on one image: one HTML file to keep, to send and to print."""

from shpeft.reports.making import report

__all__ = ["report"]

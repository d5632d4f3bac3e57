"""Print a report to PDF."""

from typing import TYPE_CHECKING

from shpeft.support.headless_browser import run_in_browser

if TYPE_CHECKING:
    from shpeft.support.headless_browser import Page


def as_pdf(html: str) -> bytes:
    """Return a report as an A4 PDF, tagged for screen readers, with the notice at the top and bottom of every page.

    Args:
        html: the page that :func:`shpeft.reports.report` returns.

    Raises:
        MissingExtra: Playwright is not installed, or Chromium does not start.
        ShpeftError: the browser failed.
    """

    def print_page(page: "Page") -> bytes:
        page.set_content(html)
        return page.pdf(prefer_css_page_size=True, tagged=True, outline=True)

    return run_in_browser(print_page, offline=True, java_script_enabled=False)

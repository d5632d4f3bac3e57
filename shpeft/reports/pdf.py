"""The report as the PDF that a browser prints of it."""

from typing import TYPE_CHECKING

from shpeft.printing import in_browser

if TYPE_CHECKING:
    from shpeft.printing import Page


def as_pdf(html: str) -> bytes:
    """A report as a PDF: A4, tagged for screen readers, with the notice at the top and bottom of every page.

    Args:
        html: what :func:`shpeft.reports.report` returns.

    Raises:
        MissingExtra: Playwright is not installed, or no Chromium can be started.
        ShpeftError: the browser failed at its work.
    """

    def printed(page: "Page") -> bytes:
        page.set_content(html)
        return page.pdf(prefer_css_page_size=True, tagged=True, outline=True)

    return in_browser(printed, offline=True, java_script_enabled=False)

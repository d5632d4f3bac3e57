"""A headless browser, by Playwright and Chromium, that draws figures and prints pages."""

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from shpeft.errors import MissingExtra, ShpeftError

if TYPE_CHECKING:
    from playwright.sync_api import Page as Page

T = TypeVar("T")

BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
"""Names of the program; the first draws no windows of its own and starts faster."""

NO_PLAYWRIGHT = "This needs Playwright, which is not installed. Install it with: pip install 'shpeft[pdf]'"

NO_CHROMIUM = "This needs Chromium, which was not found. Install it with: playwright install chromium"


@cache
def unavailable_reason() -> str:
    """Return why no browser can be started, as a sentence; an empty string if one probably can."""
    if find_spec("playwright") is None:
        return NO_PLAYWRIGHT
    return "" if find_browser() or _in_own_thread(_own_build) else NO_CHROMIUM


def run_in_browser(work: Callable[["Page"], T], **options: Any) -> T:
    """Open a blank page in a headless browser and return the result of ``work(page)``.

    Args:
        work: uses the page.
        options: of the page, as for Playwright's ``new_page``.

    Raises:
        MissingExtra: Playwright is not installed, or no Chromium can be started.
        ShpeftError: the browser failed.
    """
    return _in_own_thread(lambda: _run(work, options))


def _run(work: Callable[["Page"], T], options: dict[str, Any]) -> T:
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        raise MissingExtra(NO_PLAYWRIGHT) from None
    with sync_playwright() as playwright:
        try:  # it opens only our own pages, so it needs no sandbox
            browser = playwright.chromium.launch(executable_path=find_browser(), args=["--no-sandbox"])
        except Error:
            raise MissingExtra(NO_CHROMIUM) from None
        try:
            with browser:  # closing it deletes its profile
                return work(browser.new_page(**options))
        except Error as error:
            raise ShpeftError(f"The browser failed ({error.message.splitlines()[0]}). Try again.") from None


def find_browser() -> str | None:
    """Return the path of the system's browser; None selects the one that Playwright has installed."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


def _own_build() -> bool:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        return Path(playwright.chromium.executable_path).exists()


def _in_own_thread(work: Callable[[], T]) -> T:
    """Run in a thread of its own: Playwright's synchronous API refuses threads with an event loop (notebooks)."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()

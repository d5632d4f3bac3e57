"""A browser without a window, which draws figures and prints pages where Playwright and a Chromium are installed."""

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

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

NO_PLAYWRIGHT = "This needs Playwright, which is not installed. Install it with: pip install 'shpeft[pdf]'"

NO_CHROMIUM = "This needs a Chromium, and none was found. Install one with: playwright install chromium"


@cache
def obstacle() -> str:
    """What keeps a browser from being started, as a sentence; empty where nothing is known to."""
    if find_spec("playwright") is None:
        return NO_PLAYWRIGHT
    return "" if _browser() or _in_own_thread(_own_build) else NO_CHROMIUM


def in_browser(work: Callable[["Page"], T], **options: Any) -> T:
    """What ``work`` returns, given a blank page.

    Args:
        options: of the page, as Playwright's ``new_page`` takes them.

    Raises:
        MissingExtra: Playwright is not installed, or no Chromium can be started.
        ShpeftError: the browser failed at its work.
    """
    return _in_own_thread(lambda: _at_work(work, options))


def _at_work(work: Callable[["Page"], T], options: dict[str, Any]) -> T:
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        raise MissingExtra(NO_PLAYWRIGHT) from None
    with sync_playwright() as playwright:
        try:  # it is given our own pages alone, and so needs no sandbox
            browser = playwright.chromium.launch(executable_path=_browser(), args=["--no-sandbox"])
        except Error:
            raise MissingExtra(NO_CHROMIUM) from None
        try:
            with browser:  # whose profile is deleted when it closes
                return work(browser.new_page(**options))
        except Error as error:
            raise ShpeftError(f"The browser failed ({error.message.splitlines()[0]}). Try again.") from None


def _browser() -> str | None:
    """A browser of the system's; None leaves it to the one that Playwright has installed."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


def _own_build() -> bool:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        return Path(playwright.chromium.executable_path).exists()


def _in_own_thread(work: Callable[[], T]) -> T:
    """Playwright's plain interface refuses a thread with an event loop, such as a notebook's."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()

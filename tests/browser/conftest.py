"""One browser and one server for all browser tests; every page proves at its end that it talked to nobody else."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.driver import QUIET, executable, serving

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")


@pytest.fixture(scope="session")
def chromium() -> Iterator[object]:
    with playwright.sync_playwright() as driver:
        try:
            browser = driver.chromium.launch(executable_path=executable(), args=QUIET)
        except playwright.Error as error:
            pytest.skip(f"no Chromium can be started: {str(error).splitlines()[0]}")
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def runs(tmp_path_factory) -> Path:
    """Where the server finds its runs."""
    return Path(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="session")
def address(chromium, runs) -> Iterator[str]:
    with serving(runs) as url:
        yield url


@pytest.fixture
def open_page(chromium, address):
    """Open a path of the app in a browser session of its own."""
    contexts, outside, broken = [], [], []

    def look(request) -> None:
        if not request.url.startswith((address, address.replace("http", "ws"), "data:", "blob:")):
            outside.append(request.url)

    def open_path(path: str = "/"):
        context = chromium.new_context(viewport={"width": 1400, "height": 900}, accept_downloads=True)
        context.set_default_timeout(30_000)
        context.on("request", look)
        context.on("weberror", lambda error: broken.append(str(error.error)))
        contexts.append(context)
        page = context.new_page()
        page.on("websocket", look)
        page.goto(address + path)
        return page

    yield open_path
    for context in contexts:
        context.close()
    assert not outside, f"requests left the host: {outside}"
    assert not broken, f"scripts failed in the browser: {broken}"

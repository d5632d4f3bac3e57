"""One browser, one server and one trained run for all browser tests; each proves that it talked to nobody else."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.driver import QUIET, Server, executable

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
def server(chromium, tmp_path_factory) -> Iterator[Server]:
    """The app; at the end of all tests it must have called nobody."""
    running = Server(tmp_path_factory.mktemp("server"))
    try:
        running.start()
        yield running
    finally:
        running.stop()
    assert not running.outside.exists(), running.outside.read_text()


@pytest.fixture(scope="session")
def runs(server) -> Path:
    """Where the server finds its runs."""
    return server.runs


@pytest.fixture(scope="session")
def address(server) -> str:
    return server.address


@pytest.fixture(scope="session")
def trained(chromium, address) -> str:
    """The name of a run that was started in the app and has ended."""
    from tests.browser.steps import start_on_phantoms

    context = chromium.new_context()
    page = context.new_page()
    page.goto(address)
    start_on_phantoms(page, "browser", 4)
    playwright.expect(page.get_by_text("Finished", exact=True)).to_be_visible(timeout=180_000)
    playwright.expect(page.get_by_text(re.compile(r"Linear probe \d\.\d{3} \[")).first).to_be_visible()
    playwright.expect(page.get_by_role("button", name="Stop and keep the best")).to_have_count(0)
    context.close()
    return "browser"


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

"""One browser, one server and one trained run for all browser tests; all requests must stay on this computer."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser.driver import A_WHILE, Server, breaches, new_context

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Request, WebSocket

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
playwright.expect.set_options(timeout=60_000)  # in milliseconds; other tests keep the computer busy


@pytest.fixture(scope="session")
def server(chromium: "Browser", tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Launch the app; at the end it must have contacted no other computer."""
    running = Server(tmp_path_factory.mktemp("server"))
    try:
        running.launch()
        yield running
    finally:
        running.stop()
    assert not running.outside.exists(), running.outside.read_text()


@pytest.fixture(scope="session")
def runs(server: Server) -> Path:
    """The server's folder of runs."""
    return server.runs


@pytest.fixture(scope="session")
def address(server: Server) -> str:
    """The server's address."""
    return server.address


@pytest.fixture(scope="session")
def trained(chromium: "Browser", address: str) -> str:
    """The name of a finished run that was started in the app."""
    from tests.browser.steps import start_on_phantoms

    context = new_context(chromium, address)
    page = context.new_page()
    page.goto(f"{address}/train")
    start_on_phantoms(page, "browser", 2)
    playwright.expect(page.get_by_text("Finished", exact=True)).to_be_visible(timeout=180_000)
    playwright.expect(page.get_by_text(re.compile(r"of the linear probe \d\.\d{3} \[")).first).to_be_visible()
    playwright.expect(page.get_by_role("button", name="Stop and keep the best epoch")).to_have_count(0)
    context.close()
    return "browser"


@pytest.fixture
def open_page(chromium: "Browser", address: str) -> "Iterator[Callable[..., Page]]":
    """Open a path of the app in a new browser session; no page may break its content policy or fail in a script."""
    contexts, outside, broken = [], list[str](), list[str]()

    def record(request: "Request | WebSocket") -> None:
        if not request.url.startswith((address, address.replace("http", "ws"), "data:", "blob:")):
            outside.append(request.url)

    def open_path(path: str = "/") -> "Page":
        context = new_context(chromium, address, viewport={"width": 1400, "height": 900}, accept_downloads=True)
        context.set_default_timeout(A_WHILE)
        context.on("request", record)
        context.on("weberror", lambda error: broken.append(str(error.error)))
        context.on("console", lambda message: broken.extend(breaches(message)))
        contexts.append(context)
        page = context.new_page()
        page.on("websocket", record)
        page.goto(address + path)
        return page

    yield open_path
    for context in contexts:
        context.close()
    assert not outside, f"requests left the host: {outside}"
    assert not broken, f"scripts failed in the browser: {broken}"

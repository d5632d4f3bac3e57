"""What a browser may do with the app: no foreign page, no frame, and no request to another host."""

import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from tests.browser.driver import TOKEN, Server, breaches, new_context

pytest.importorskip("playwright.sync_api")
from playwright.sync_api import Browser, expect

from tests.browser.steps import A_WHILE

pytestmark = pytest.mark.browser


class OtherSite(BaseHTTPRequestHandler):
    """A web page of somebody else that puts the app into a frame."""

    address = ""

    def do_GET(self) -> None:
        """Answer with the page."""
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(f"<iframe src='{self.address}' width=900 height=600></iframe>".encode())

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


@pytest.fixture
def other_site(address: str) -> Iterator[str]:
    """The address of another site."""
    OtherSite.address = f"{address}/?token={TOKEN}"
    with HTTPServer(("127.0.0.1", 0), OtherSite) as site:
        Thread(target=site.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{site.server_port}"
        site.shutdown()


def test_a_page_can_reach_no_other_host(chromium: Browser, address: str) -> None:
    """All pages that tests open are watched for such messages, too."""
    context = new_context(chromium, address)
    page = context.new_page()
    page.goto(f"{address}/_stcore/health")
    with page.expect_console_message(lambda message: bool(breaches(message))):
        refused = page.evaluate("fetch('http://other.example/').then(() => 'sent', () => 'refused')")
    assert refused == "refused"
    context.close()


def test_without_the_token_the_address_explains_itself(chromium: Browser, address: str) -> None:
    page = chromium.new_page()
    page.goto(f"{address}/train")
    expect(page.get_by_role("heading", name="This address lacks its token")).to_be_visible()
    page.goto(f"{address}/train?token={TOKEN}")
    expect(page.get_by_role("heading", level=1).first).to_be_visible(timeout=A_WHILE)
    assert "token" not in page.url
    page.close()


def test_another_site_cannot_frame_the_app(chromium: Browser, other_site: str) -> None:
    page = chromium.new_page()
    page.goto(other_site)
    frame = page.frames[-1]
    expect(page.locator("iframe")).to_be_visible()
    assert "shpeft" not in frame.content()
    page.close()


def test_a_name_that_was_made_to_point_here_is_refused(server: Server) -> None:
    request = urllib.request.Request(
        f"{server.address}/?token={TOKEN}", headers={"Host": f"evil.example:{server.port}"}
    )
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(request, timeout=10)

"""The app with accounts: a login with a real provider's protocol, and a reverse proxy that names people."""

import re
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin

import pytest

from tests.browser.driver import Server, new_context
from tests.browser.identity_provider import Provider, naming_proxy, providing

pytest.importorskip("playwright.sync_api")
pytest.importorskip("authlib", reason="Authlib is not installed")
from playwright.sync_api import Browser, Page, expect

from shpeft.diagnosis import case_id
from shpeft.runs.audit import AuditLog
from tests.browser.steps import A_WHILE
from tests.helpers.image_folders import write_picture

pytestmark = pytest.mark.browser

ACCOUNT = re.compile(r"^Account [0-9a-f]{16}$")


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    """An OpenID Connect provider."""
    with providing() as running:
        yield running


@pytest.fixture(scope="module")
def site(chromium: Browser, provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The app with a login."""
    folder = tmp_path_factory.mktemp("login")
    secrets = folder / "secrets.toml"
    server = Server(folder, "--login", str(secrets), "--claim", "groups=readers")
    secrets.write_text(
        f'[auth]\nredirect_uri = "{server.address}/oauth2callback"\ncookie_secret = "{"s" * 40}"\n'
        f'client_id = "shpeft"\nclient_secret = "secret"\n'
        f'server_metadata_url = "{provider.address}/.well-known/openid-configuration"\n'
    )
    try:
        server.launch()
        yield server
    finally:
        server.stop()


def log_in(page: Page, site: Server) -> None:
    """Press the button; the provider sends the browser back."""
    page.goto(site.address)
    page.get_by_role("button", name="Log in").click(timeout=A_WHILE)


def account(page: Page) -> str:
    """Return the account that the page shows."""
    shown = page.get_by_text(ACCOUNT)
    expect(shown).to_be_visible(timeout=A_WHILE)
    return shown.inner_text()


def test_a_login_opens_the_app_under_an_opaque_account(chromium: Browser, site: Server, provider: Provider) -> None:
    provider.subject, provider.claims = "reader", {"groups": ["readers"], "name": "Somebody", "email": "a@b.example"}
    page = chromium.new_page()
    page.goto(f"{site.address}/train")
    expect(page.get_by_role("button", name="Log in")).to_be_visible(timeout=A_WHILE)
    expect(page.get_by_text("Teach it my images")).to_have_count(0)
    log_in(page, site)
    first = account(page)
    expect(page.get_by_text("Your images stay on the server 127.0.0.1.")).to_have_count(2)
    assert "Somebody" not in page.content()
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("button", name="Log in")).to_be_visible(timeout=A_WHILE)
    provider.subject = "other"
    log_in(page, site)
    assert account(page) != first
    page.context.close()


def test_an_upload_is_diagnosed_and_recorded(
    chromium: Browser, site: Server, provider: Provider, tmp_path: Path
) -> None:
    provider.subject, provider.claims = "reader", {"groups": ["readers"]}
    image = write_picture(tmp_path / "DOE_JANE.png", 1, (96, 96))
    page = chromium.new_page()
    log_in(page, site)
    opaque = account(page).removeprefix("Account ")
    page.goto(f"{site.address}/diagnose?run=example")
    page.locator("input[type=file]").first.set_input_files(image)
    expect(page.get_by_text("Your finding")).to_be_visible(timeout=A_WHILE)
    [entry] = AuditLog(site.runs).entries()
    assert entry is not None
    assert (entry.account, entry.run, entry.case) == (opaque, "example", case_id(image.read_bytes()))
    assert "DOE" not in AuditLog(site.runs).path.read_text()
    page.context.close()


def test_an_account_without_the_claim_is_told_so(chromium: Browser, site: Server, provider: Provider) -> None:
    provider.subject, provider.claims = "visitor", {"groups": ["visitors"]}
    page = chromium.new_page()
    log_in(page, site)
    expect(page.get_by_text("This account lacks what the app asks for (groups).")).to_be_visible(timeout=A_WHILE)
    expect(page.get_by_text(ACCOUNT)).to_have_count(0)
    assert page.request.get(f"{site.address}/media/a.png").status == 403
    page.context.close()


def test_nothing_of_the_login_is_logged(site: Server) -> None:
    log = site.log.read_text(errors="replace")
    assert not any(text in log for text in ("Somebody", "a@b.example", "s" * 40))


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, str]]:
    """The app behind a proxy that names people, and the address in their browsers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    flags = ("--behind-proxy", "127.0.0.1", "--user-header", "X-Forwarded-User", "--url", address)
    server = Server(tmp_path_factory.mktemp("proxied"), *flags)
    with naming_proxy(server.port, port):
        try:
            server.launch()
            yield server, address
        finally:
            server.stop()


def test_a_proxy_names_the_person(chromium: Browser, proxied: tuple[Server, str]) -> None:
    server, address = proxied
    accounts = []
    for name in ("reader", "other", "reader"):
        page = page_of(chromium, name)
        page.goto(address)
        accounts.append(account(page))
        page.context.close()  # an open page would call the proxy after the app has ended
    assert accounts[0] == accounts[2] != accounts[1]
    request = urllib.request.Request(server.address, headers={"Host": address.removeprefix("http://")})
    with pytest.raises(urllib.error.HTTPError, match="403"):  # past the proxy
        urllib.request.urlopen(request, timeout=10)
    assert not server.outside.exists()


def test_what_one_account_uploads_is_served_to_nobody_else(
    chromium: Browser, proxied: tuple[Server, str], tmp_path: Path
) -> None:
    _, address = proxied
    image = write_picture(tmp_path / "a.png", 1, (96, 96))
    owner, other = page_of(chromium, "reader"), page_of(chromium, "other")
    owner.goto(f"{address}/diagnose?run=example")
    owner.locator("input[type=file]").first.set_input_files(image)
    other.goto(f"{address}/diagnose?run=example")
    account(other)
    with owner.expect_download(timeout=A_WHILE) as download:
        owner.get_by_role("button", name="Diagnosis (JSON)").click(timeout=A_WHILE)
    files = [download.value.url]
    assert [page.request.get(files[0]).status for page in (owner, other)] == [200, 403]
    owner.get_by_role("link", name="Attribution").click()
    picture = owner.get_by_role("img", name="The image", exact=True)
    expect(picture).to_be_visible(timeout=A_WHILE)
    files.append(urljoin(address, picture.get_attribute("src") or ""))
    assert [page.request.get(files[1]).status for page in (owner, other)] == [200, 403]
    assert all("/media/" in file for file in files)
    expect(other.get_by_text("Earlier lists")).to_have_count(0)
    for page in (owner, other):
        page.context.close()


def page_of(chromium: Browser, name: str) -> Page:
    """Return a page of somebody whom the proxy knows."""
    return chromium.new_context(http_credentials={"username": name, "password": "a"}).new_page()


def test_the_app_for_this_computer_starts_by_its_own_command(chromium: Browser, tmp_path: Path) -> None:
    server = Server(tmp_path, "--allow-folder", str(tmp_path))
    try:
        server.launch()
        page = new_context(chromium, server.address).new_page()
        page.goto(server.address)
        expect(page.get_by_role("heading", level=1).first).to_be_visible(timeout=A_WHILE)
        expect(page.get_by_text("shpeft does not start")).to_have_count(0)
        expect(page.get_by_text(re.compile("^Account"))).to_have_count(0)
        page.context.close()
    finally:
        server.stop()

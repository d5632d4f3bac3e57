"""Who may use the app: hosts, origins, the token, and the headers of every answer."""

import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.web.server.starlette.starlette_app_utils import create_signed_value

from app import identity
from app.access import Access
from app.sent_media import SentMedia
from shpeft.support.admission import Admission

HOST = "127.0.0.1:8501"
HERE = {"host": HOST, "cookie": "shpeft_token_8501=secret"}


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    """Stands for Streamlit."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
    else:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"the page"})


def ask(
    headers: dict[str, str] | list[tuple[str, str]],
    path: str = "/",
    query: str = "",
    kind: str = "http",
    site: Admission | None = None,
    client: str = "127.0.0.1",
    access: Access | None = None,
) -> tuple[Any, dict[str, str]]:
    """Return the status of an answer, or the kind of a socket's first message, and the headers."""
    sent: list[Message] = []
    scope = {"type": kind, "method": "GET", "path": path, "query_string": query.encode(), "scheme": "http"}
    pairs = headers.items() if isinstance(headers, dict) else headers
    scope["headers"] = [(name.encode(), value.encode()) for name, value in pairs]
    scope["client"] = (client, 50000)
    if access is None:
        access = Access(answer, token="secret") if site is None else Access(answer, site=site)

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request"}

    with ThreadPoolExecutor(1) as thread:  # this thread may run the browser tests' event loop
        thread.submit(asyncio.run, access(scope, receive, send)).result()
    first = sent[0]
    return first.get("status", first["type"]), {k.decode(): v.decode() for k, v in first.get("headers", [])}


@pytest.mark.parametrize(
    ("headers", "path", "status"),
    [
        (HERE, "/", 200),
        (HERE | {"origin": f"http://{HOST}"}, "/", 200),
        ({"host": HOST}, "/_stcore/health", 200),
        ({"host": HOST}, "/", 403),
        ({"host": HOST, "cookie": "shpeft_token_8501=guessed"}, "/", 403),
        ({"host": HOST, "cookie": "shpeft_token_8502=secret"}, "/", 403),
        ({"host": HOST, "cookie": "shpeft_token_8501=s\u00e9cret"}, "/", 403),
        (HERE | {"host": "evil.example"}, "/", 403),
        (HERE | {"host": "evil.example"}, "/_stcore/health", 403),
        (HERE | {"host": "127.0.0.1.evil.example:8501"}, "/", 403),
        (HERE | {"host": "127.0.0.1:8501; script-src *"}, "/", 403),
        (HERE | {"host": ""}, "/", 403),
        (HERE | {"origin": "http://127.0.0.1:9999"}, "/_stcore/upload_file", 403),
        (HERE | {"origin": "null"}, "/", 403),
        (HERE, "/_stcore/agent/openapi.json", 403),
        (HERE, "/_stcore/metrics", 403),
    ],
)
def test_only_this_computers_browser_with_the_token_gets_an_answer(
    headers: dict[str, str], path: str, status: int
) -> None:
    assert ask(headers, path)[0] == status


@pytest.mark.parametrize(
    ("headers", "first"),
    [
        (HERE | {"origin": f"http://{HOST}"}, "websocket.accept"),
        (HERE, "websocket.close"),
        (HERE | {"origin": "http://localhost:8501"}, "websocket.close"),
        (HERE | {"origin": "http://evil.example"}, "websocket.close"),
        (HERE | {"host": "evil.example", "origin": "http://evil.example"}, "websocket.close"),
        ({"host": HOST, "origin": f"http://{HOST}"}, "websocket.close"),
    ],
)
def test_sockets_need_the_pages_own_origin(headers: dict[str, str], first: str) -> None:
    assert ask(headers, "/_stcore/stream", kind="websocket")[0] == first


def test_the_token_moves_from_the_address_to_a_cookie() -> None:
    status, headers = ask({"host": HOST}, "//evil.example/train", "run=a%26b&token=secret")
    assert (status, headers["location"]) == (303, "/evil.example/train?run=a%26b")
    assert headers["set-cookie"] == "shpeft_token_8501=secret; HttpOnly; Path=/; SameSite=strict"
    assert ask({"host": HOST}, query="token=guessed")[0] == 403
    assert ask({"host": "evil.example"}, query="token=secret")[0] == 403


def test_every_answer_forbids_frames_and_foreign_requests() -> None:
    headers = ask(HERE)[1]
    assert headers["x-frame-options"] == "DENY"
    policy = headers["content-security-policy"]
    for part in ("default-src 'self'", "frame-ancestors 'none'", f"ws://{HOST}"):
        assert part in policy
    assert not any(source in policy.replace(f"//{HOST}", "") for source in ("http:", "https:", "*", "//"))


# -- behind a reverse proxy that names people

PROXIED = Admission("proxy", "https://shpeft.example", "x-forwarded-user", ("10.0.0.2", "10.1.0.0/24"))
NAMED = {"host": "shpeft.example", "x-forwarded-user": "reader"}


@pytest.mark.parametrize(
    ("headers", "client", "path", "status"),
    [
        (NAMED, "10.0.0.2", "/", 200),
        (NAMED, "10.1.0.77", "/static/a.js", 200),
        (NAMED, "10.1.0.77", "/media/a.png", 403),
        (NAMED, "::ffff:10.0.0.2", "/", 200),
        (NAMED | {"origin": "https://shpeft.example"}, "10.0.0.2", "/_stcore/upload_file/a", 200),
        (NAMED, "10.0.0.3", "/", 403),
        (NAMED, "127.0.0.1", "/", 403),
        (NAMED, "", "/", 403),
        (NAMED | {"x-forwarded-for": "10.0.0.2"}, "192.0.2.1", "/", 403),
        (NAMED | {"cookie": "shpeft_token_8501=secret"}, "192.0.2.1", "/", 403),
        ({"host": "shpeft.example"}, "10.0.0.2", "/", 403),
        (NAMED | {"x-forwarded-user": " "}, "10.0.0.2", "/", 403),
        (NAMED | {"x-forwarded-user": "a" * 513}, "10.0.0.2", "/", 403),
        (NAMED | {"host": "evil.example"}, "10.0.0.2", "/", 403),
        (NAMED | {"host": "127.0.0.1:8501"}, "10.0.0.2", "/", 403),
        (NAMED | {"origin": "http://shpeft.example"}, "10.0.0.2", "/", 403),
        (NAMED | {"origin": "https://evil.example"}, "10.0.0.2", "/", 403),
        (NAMED, "10.0.0.2", "/_stcore/metrics", 403),
        ({"host": "127.0.0.1:8501"}, "127.0.0.1", "/_stcore/health", 200),
        ({"host": "evil.example"}, "127.0.0.1", "/_stcore/health", 403),
    ],
)
def test_a_proxy_has_to_be_the_one_that_was_named_and_to_name_the_person(
    headers: dict[str, str], client: str, path: str, status: int
) -> None:
    assert ask(headers, path, site=PROXIED, client=client)[0] == status


def test_two_names_are_none() -> None:
    assert ask([*NAMED.items(), ("x-forwarded-user", "other")], site=PROXIED, client="10.0.0.2")[0] == 403


def test_sockets_behind_a_proxy_need_the_same() -> None:
    headers = NAMED | {"origin": "https://shpeft.example"}
    assert ask(headers, "/_stcore/stream", kind="websocket", site=PROXIED, client="10.0.0.2")[0] == "websocket.accept"
    assert ask(NAMED, "/_stcore/stream", kind="websocket", site=PROXIED, client="10.0.0.2")[0] == "websocket.close"
    assert ask(headers, "/_stcore/stream", kind="websocket", site=PROXIED, client="10.0.0.3")[0] == "websocket.close"


def test_the_policy_names_the_address_of_the_site() -> None:
    assert "wss://shpeft.example;" in ask(NAMED, site=PROXIED, client="10.0.0.2")[1]["content-security-policy"]


# -- with a login

LOGIN = Admission("login", "https://shpeft.example", claims={"hd": ("hospital.example",)})
SECRET = "0123456789abcdef0123456789abcdef"


def signed(secret: str = SECRET, **changes: object) -> dict[str, str]:
    """Return the headers of a browser whose login states this, signed as Streamlit signs it."""
    stated = {"is_logged_in": True, "origin": LOGIN.origin, "iss": "https://idp.example", "sub": "reader"}
    stated |= {"iat": time.time(), "hd": "hospital.example", **changes}
    value = create_signed_value(secret, identity.COOKIE, json.dumps(stated)).decode()
    return {"host": "shpeft.example", "cookie": f"{identity.COOKIE}={value}"}


@pytest.fixture
def _secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "get_cookie_secret", lambda: SECRET)


@pytest.mark.usefixtures("_secret")
@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, 200),
        ({"hd": ["hospital.example", "b"]}, 200),
        ({"secret": "another secret, of somebody else."}, 403),
        ({"is_logged_in": False}, 403),
        ({"origin": "https://other.example"}, 403),
        ({"sub": ""}, 403),
        ({"hd": "evil.example"}, 403),
        ({"hd": None}, 403),
        ({"iat": time.time() - 13 * 3600}, 403),
        ({"iat": time.time() + 3600}, 403),
        ({"iat": None}, 403),
    ],
)
def test_files_and_uploads_need_an_admitted_login(changes: dict[str, Any], status: int) -> None:
    assert ask(signed(**changes), "/component/a/b.html", site=LOGIN)[0] == status
    assert ask(signed(**changes), "/_stcore/upload_file/a/b", site=LOGIN)[0] == status


@pytest.mark.usefixtures("_secret")
@pytest.mark.parametrize("cookie", ["", "_streamlit_user=", "_streamlit_user=a|b|c", "_streamlit_user=chunks-99999999"])
def test_before_the_login_the_page_with_its_button_is_all_there_is(cookie: str) -> None:
    headers = {"host": "shpeft.example", "cookie": cookie}
    for path in ("/", "/static/js/index.js", "/auth/login", "/oauth2callback", "/_stcore/health"):
        assert ask(headers, path, site=LOGIN)[0] == 200, path
    for path in ("/media/a.png", "/_stcore/upload_file/a/b", "/component/a/b.html", "/_stcore/bidi-components/a/b"):
        assert ask(headers, path, site=LOGIN)[0] == 403, path
    assert ask(headers, "/train", site=LOGIN)[0] == 303
    socket = headers | {"origin": LOGIN.origin}
    assert ask(socket, "/_stcore/stream", kind="websocket", site=LOGIN)[0] == "websocket.accept"
    assert ask(socket | {"origin": "http://shpeft.example"}, "/_stcore/stream", kind="websocket", site=LOGIN)[0] == (
        "websocket.close"
    )


# -- what is one account's


ADDRESS = "/media/ab12.png"


def message(kind: str, **fields: str) -> bytes:
    """Return a message of Streamlit to a page: an image, or a field that repeats what a visitor typed."""
    part = ForwardMsg()
    element = getattr(part.delta.new_element, kind)
    element = element.imgs.add() if kind == "imgs" else element
    for name, value in fields.items():
        setattr(element, name, value)
    content: bytes = part.SerializeToString()
    return content


@pytest.mark.usefixtures("_secret")
@pytest.mark.parametrize(
    ("site", "reader", "other"),
    [
        (PROXIED, NAMED, NAMED | {"x-forwarded-user": "other"}),
        (LOGIN, signed(), signed(sub="other")),
        (LOGIN, signed(), signed(iss="https://other.example")),
    ],
    ids=["proxy", "login", "provider"],
)
def test_a_media_file_is_the_account_s_whose_page_got_its_address(
    site: Admission, reader: dict[str, str], other: dict[str, str]
) -> None:
    messages = [message("imgs", url=ADDRESS), message("text_input", value=ADDRESS)]

    async def pages(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(scope, receive, send)
        if scope["type"] == "websocket":
            await send({"type": "websocket.send", "bytes": messages.pop(0)})

    access = Access(pages, site=site)
    for headers in (reader, other):
        ask(headers | {"origin": site.origin}, "/_stcore/stream", kind="websocket", client="10.0.0.2", access=access)
    assert not messages
    statuses = [ask(headers, ADDRESS, client="10.0.0.2", access=access)[0] for headers in (reader, other)]
    assert statuses == [200, 403]
    assert ask(reader, "/media/cd34.png", client="10.0.0.2", access=access)[0] == 403


def test_an_account_s_latest_addresses_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.sent_media.MOST", 2)
    sent = SentMedia()
    for name in "abac":
        sent.note("reader", message("imgs", url=f"/media/{name}"))
    assert [sent.was_sent("reader", f"/media/{name}") for name in "abc"] == [True, False, True]


@pytest.mark.parametrize(
    ("site", "flags"),
    [(PROXIED, "; HttpOnly; Secure"), (replace(PROXIED, origin="http://127.0.0.1:8501"), "; HttpOnly")],
)
def test_cookies_of_an_encrypted_site_are_for_tls_alone(site: Admission, flags: str) -> None:
    async def pages(scope: Scope, receive: Receive, send: Send) -> None:
        cookies = [(b"Set-Cookie", b"a=secure; HttpOnly"), (b"set-cookie", b"b=; secure")]
        await send({"type": "http.response.start", "status": 200, "headers": cookies})

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"host", site.host.encode()), (b"x-forwarded-user", b"reader")]
    scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": headers}
    with ThreadPoolExecutor(1) as thread:
        scope["client"] = ("10.0.0.2", 1)
        thread.submit(asyncio.run, Access(pages, site=site)(scope, send, send)).result()  # type: ignore[arg-type]
    assert [value for name, value in sent[0]["headers"] if name.lower() == b"set-cookie"] == [
        f"a=secure{flags}".encode(),
        b"b=; secure",
    ]


def test_media_files_stay_out_of_the_browsers_cache() -> None:
    assert ask(HERE, "/media/ab12.png")[1]["cache-control"] == "no-store"
    assert "cache-control" not in ask(HERE)[1]

"""Who may use the app: hosts, origins, the token, and the headers of every answer."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from app.access import Access

HOST = "127.0.0.1:8501"
HERE = {"host": HOST, "cookie": "shpeft_token_8501=secret"}


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    """Stands for Streamlit."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
    else:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"the page"})


def ask(headers: dict[str, str], path: str = "/", query: str = "", kind: str = "http") -> tuple[Any, dict[str, str]]:
    """Return the status of an answer, or the kind of a socket's first message, and the headers."""
    sent: list[Message] = []
    scope = {"type": kind, "method": "GET", "path": path, "query_string": query.encode(), "scheme": "http"}
    scope["headers"] = [(name.encode(), value.encode()) for name, value in headers.items()]

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request"}

    with ThreadPoolExecutor(1) as thread:  # this thread may run the browser tests' event loop
        thread.submit(asyncio.run, Access(answer, token="secret")(scope, receive, send)).result()
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

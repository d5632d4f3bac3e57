"""Who may use the app: requests from this computer's browser that carry the server's token, and nobody else.

The checks stand before Streamlit's own server, so that they cover pages, sockets, uploads and media alike.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Iterator
from http.cookies import SimpleCookie
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

import streamlit
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HOST = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d{1,5})?")
"""Names of this computer. A foreign name that was made to point here (DNS rebinding) is none of them."""

HEALTH = "/_stcore/health"
"""Answers without a token: it says that the server runs, and nothing else."""

CLOSED = ("/_stcore/agent", "/_stcore/metrics")
"""Streamlit's interfaces for programs, which the app does not use."""

COOKIE = "shpeft_token"
"""The token's cookie, followed by the port: browsers send a host's cookies to all of its ports."""

NEEDS_TOKEN = (
    "<!DOCTYPE html><html lang='en'><title>shpeft</title><body style='font:1.1rem sans-serif;margin:15vh 10vw'>"
    "<h1>This address lacks its token</h1><p>Open the address that shpeft printed when it started; it ends in "
    "<code>?token=…</code>. The token keeps other users of this computer out.</p>"
)


class Access:
    """ASGI middleware that refuses requests of others and forbids pages to contact anybody else.

    Args:
        app: the application behind it.
        token: what the address has to carry once; None: no token is asked for.

    Examples:
        >>> Access(app=None, token="secret").token
        'secret'
    """

    in_force = False
    """Whether this process has one."""

    def __init__(self, app: ASGIApp, token: str | None = None) -> None:
        Access.in_force = True
        self.app, self.token, self.policy = app, token, content_policy()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, answer it with a redirection, or refuse it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if reason := _foreign(scope, headers):
            await _refuse(PlainTextResponse(reason, 403), scope, receive, send)
        elif scope["type"] == "http" and (token := self._token_in_address(scope)):
            await self._hand_out(token, scope, headers, receive, send)
        elif not self._has_token(scope, headers):
            await _refuse(HTMLResponse(NEEDS_TOKEN, 403), scope, receive, send)
        else:
            await self.app(scope, receive, self._with_policy(scope, headers, send))

    def _has_token(self, scope: Scope, headers: Headers) -> bool:
        if self.token is None or scope["path"] == HEALTH:
            return True
        cookie = SimpleCookie(headers.get("cookie")).get(_cookie_name(headers))
        return cookie is not None and hmac.compare_digest(cookie.value.encode(), self.token.encode())

    def _token_in_address(self, scope: Scope) -> str | None:
        """Return the token of the address if it is the right one."""
        given = dict(parse_qsl(scope["query_string"].decode("latin-1"))).get("token", "")
        right = self.token is not None and hmac.compare_digest(given.encode(), self.token.encode())
        return given if right else None

    async def _hand_out(self, token: str, scope: Scope, headers: Headers, receive: Receive, send: Send) -> None:
        """Turn the token of the address into a cookie that scripts cannot read, and clear it from the address."""
        rest = [(key, value) for key, value in parse_qsl(scope["query_string"].decode("latin-1")) if key != "token"]
        path = "/" + scope["path"].lstrip("/")  # a path of two slashes would name another host
        response = RedirectResponse(path + ("?" + urlencode(rest) if rest else ""), 303)
        response.set_cookie(_cookie_name(headers), token, httponly=True, samesite="strict")
        await response(scope, receive, send)

    def _with_policy(self, scope: Scope, headers: Headers, send: Send) -> Send:
        """Return ``send`` with the security headers added to each response."""
        host = headers.get("host", "")

        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                sent = MutableHeaders(scope=message)
                sent["Content-Security-Policy"] = self.policy.format(host=host)
                sent["X-Frame-Options"] = "DENY"
                sent["X-Content-Type-Options"] = "nosniff"
                sent["Referrer-Policy"] = "no-referrer"
                sent["Cross-Origin-Opener-Policy"] = "same-origin"
                sent["Cross-Origin-Resource-Policy"] = "same-origin"
            await send(message)

        return send_with_policy


def content_policy() -> str:
    """Return the Content-Security-Policy: nothing is loaded from, sent to, or framed by another host.

    ``{host}`` stands for the request's host. Streamlit styles its elements inline and starts components from blobs.
    """
    scripts = " ".join(f"'sha256-{digest}'" for digest in _inline_scripts())
    return "; ".join(
        (
            "default-src 'self'",
            f"script-src 'self' blob: 'wasm-unsafe-eval' {scripts}",
            "style-src 'self' blob: 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "media-src 'self' data: blob:",
            "font-src 'self' data:",
            "connect-src 'self' data: blob: ws://{host} wss://{host}",
            "worker-src 'self' blob:",
            "frame-src 'self' blob: data:",
            "frame-ancestors 'none'",
            "object-src 'none'",
            "base-uri 'self'",
            "form-action 'self'",
        )
    )


def _inline_scripts() -> Iterator[str]:
    """Yield the digest of each inline script of Streamlit's page."""
    page = Path(streamlit.__file__).with_name("static") / "index.html"
    for script in re.findall(r"<script>(.*?)</script>", page.read_text(encoding="utf-8"), re.DOTALL):
        yield base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _foreign(scope: Scope, headers: Headers) -> str | None:
    """Return why a request is none of this computer's browser, or None."""
    host, origin = headers.get("host", ""), headers.get("origin")
    if not HOST.fullmatch(host):
        return "This server answers under 127.0.0.1 and localhost alone."
    if any(scope["path"].startswith(path) for path in CLOSED):
        return "This interface is closed."
    if origin is None and scope["type"] == "websocket":
        return "A connection needs an Origin; browsers send it."
    if origin is not None and urlsplit(origin).netloc != host:
        return "Requests of other pages are refused."
    return None


def _cookie_name(headers: Headers) -> str:
    return f"{COOKIE}_{headers.get('host', '').rpartition(':')[2]}"


async def _refuse(response: PlainTextResponse | HTMLResponse, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await response(scope, receive, send)
    else:
        await send({"type": "websocket.close", "code": 1008})  # before it is accepted: status 403

"""Who may use the app: this computer's browser with the server's token, or the people whom the server admits.

The checks stand before Streamlit's own server, so that they cover pages, sockets, uploads and media alike.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Hashable, Iterator
from http.cookies import SimpleCookie
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

import streamlit
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.identity import login_of
from app.sent_media import MEDIA, SentMedia
from shpeft.support.admission import Admission

HOST = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d{1,5})?")
"""Names of this computer. A foreign name that was made to point here (DNS rebinding) is none of them."""

HEALTH = "/_stcore/health"
"""Answers without a token: it says that the server runs, and nothing else."""

CLOSED = ("/_stcore/agent", "/_stcore/metrics")
"""Streamlit's interfaces for programs, which the app does not use."""

COOKIE = "shpeft_token"
"""The token's cookie, followed by the port: browsers send a host's cookies to all of its ports."""

BEFORE_LOGIN = ("/", "/oauth2callback", "/_stcore/host-config", "/_stcore/stream", "/favicon.png")
"""What the page with the login button needs. Its script stops before it shows anything else."""

FILES_BEFORE_LOGIN = ("/static/", "/auth/")

LONGEST_NAME = 512
"""Most characters of a person's name in the proxy's header."""

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
        site: how people beyond this computer are admitted; by default nobody is.

    Examples:
        >>> Access(app=None, token="secret").token
        'secret'
    """

    in_force = False
    """Whether this process has one."""

    def __init__(self, app: ASGIApp, token: str | None = None, site: Admission | None = None) -> None:
        Access.in_force = True
        self.app, self.token, self.site, self.policy = app, token, site or Admission(), content_policy()
        self.sent = SentMedia()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, answer it with a redirection, or refuse it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        who = self._who(headers)
        if reason := _foreign(scope, headers, self.site) or _not_named(scope, headers, self.site):
            await _refuse(PlainTextResponse(reason, 403), scope, receive, send)
        elif self.site.kind == "login" and who is None and not _may_before_login(scope):
            await _refuse(_to_login(scope), scope, receive, send)
        elif (
            self.site.kind != "token" and scope["path"].startswith(MEDIA) and not self.sent.was_sent(who, scope["path"])
        ):
            await _refuse(PlainTextResponse("This file is not one of your pages'.", 403), scope, receive, send)
        elif scope["type"] == "http" and (token := self._token_in_address(scope)):
            await self._hand_out(token, scope, headers, receive, send)
        elif not self._has_token(scope, headers):
            await _refuse(HTMLResponse(NEEDS_TOKEN, 403), scope, receive, send)
        else:
            await self.app(scope, receive, self._observed(who, self._with_policy(scope, headers, send)))

    def _who(self, headers: Headers) -> Hashable:
        """Return what tells one account from another; None without an admitted one."""
        if self.site.kind == "login":
            return login_of(_cookies(headers), self.site)
        return headers.get(self.site.header, "").strip() or None if self.site.kind == "proxy" else None

    def _observed(self, who: Hashable, send: Send) -> Send:
        """Return ``send``, which notes what media files an account's pages are sent the addresses of."""
        if who is None:
            return send

        async def send_and_note(message: Message) -> None:
            if message["type"] == "websocket.send":
                self.sent.note(who, message.get("bytes") or b"")
            await send(message)

        return send_and_note

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
        """Return ``send`` with the security headers added; cookies of a site with TLS are for TLS alone."""
        host, encrypted = headers.get("host", ""), self.site.origin.startswith("https:")

        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                sent = MutableHeaders(scope=message)
                sent["Content-Security-Policy"] = self.policy.format(host=host)
                sent["X-Frame-Options"] = "DENY"
                sent["X-Content-Type-Options"] = "nosniff"
                sent["Referrer-Policy"] = "no-referrer"
                sent["Cross-Origin-Opener-Policy"] = "same-origin"
                sent["Cross-Origin-Resource-Policy"] = "same-origin"
                if scope["path"].startswith(MEDIA):
                    sent["Cache-Control"] = "no-store"  # else the next person at the computer has them on its disk
                if encrypted:
                    message["headers"] = [*map(_for_tls_alone, message["headers"])]
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


def _foreign(scope: Scope, headers: Headers, site: Admission) -> str | None:
    """Return why a request is none of a browser that shows the app under its own address, or None."""
    host, origin = headers.get("host", ""), headers.get("origin")
    if site.kind != "token":
        if host.lower() != site.host and not _is_health_check(scope, host):
            return "This server does not answer under this name."
    elif not HOST.fullmatch(host):
        return "This server answers under 127.0.0.1 and localhost alone."
    if any(scope["path"].startswith(path) for path in CLOSED):
        return "This interface is closed."
    if origin is None and scope["type"] == "websocket":
        return "A connection needs an Origin; browsers send it."
    if origin is not None and (urlsplit(origin).netloc != host if site.kind == "token" else origin != site.origin):
        return "Requests of other pages are refused."
    return None


def _is_health_check(scope: Scope, host: str) -> bool:
    """Return whether this computer, such as a container's health check, asks whether the server runs."""
    return bool(scope["type"] == "http" and scope["path"] == HEALTH and HOST.fullmatch(host))


def _not_named(scope: Scope, headers: Headers, site: Admission) -> str | None:
    """Return why a request does not come from the proxy with exactly one name, or None; also without a proxy."""
    if site.kind != "proxy" or scope["path"] == HEALTH:
        return None
    address = (scope.get("client") or ("", 0))[0]
    if not site.is_proxy(address):
        return "This server answers to its reverse proxy alone."
    names = headers.getlist(site.header)
    if len(names) != 1 or not 0 < len(names[0].strip()) <= LONGEST_NAME:
        return "The reverse proxy did not say who asks."
    return None


def _may_before_login(scope: Scope) -> bool:
    path = scope["path"]
    return path in (HEALTH, *BEFORE_LOGIN) or path.startswith(FILES_BEFORE_LOGIN)


def _to_login(scope: Scope) -> RedirectResponse | PlainTextResponse:
    """Return the answer to somebody without a login: the page that offers it, for addresses of pages."""
    is_page = scope["type"] == "http" and scope["method"] == "GET" and scope["path"].count("/") == 1
    return RedirectResponse("/", 303) if is_page else PlainTextResponse("Log in first.", 403)


def _cookies(headers: Headers) -> dict[str, str]:
    cookies: dict[str, str] = cookie_parser(headers.get("cookie", ""))
    return cookies


def _for_tls_alone(header: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    """Return a header; one that sets a cookie lets the browser send it over TLS alone."""
    name, value = header
    flags = [part.strip().lower() for part in value.split(b";")[1:]]
    return (name, value + b"; Secure") if name.lower() == b"set-cookie" and b"secure" not in flags else header


def _cookie_name(headers: Headers) -> str:
    return f"{COOKIE}_{headers.get('host', '').rpartition(':')[2]}"


async def _refuse(response: Response, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await response(scope, receive, send)
    else:
        await send({"type": "websocket.close", "code": 1008})  # before it is accepted: status 403

"""An OpenID Connect provider that logs in whoever it is told to, and a reverse proxy that names people."""

import asyncio
import base64
import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit


class Provider:
    """The provider.

    Attributes:
        address: of its server.
        subject: who logs in next.
        claims: what else it states of them.
    """

    def __init__(self) -> None:
        from joserfc.jwk import RSAKey

        self.key = RSAKey.generate_key(2048, {"kid": "1", "use": "sig"})
        self.subject, self.claims = "reader", dict[str, Any]()
        self.nonces = dict[str, str]()
        provider = self

        class Handler(BaseHTTPRequestHandler):
            """Answers for the provider."""

            def do_GET(self) -> None:
                """Answer a browser."""
                provider.answer(self, b"")

            def do_POST(self) -> None:
                """Answer the app."""
                provider.answer(self, self.rfile.read(int(self.headers["Content-Length"])))

            def log_message(self, format: str, *args: object) -> None:
                """Print nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        """Answer one request."""
        parts = urlsplit(handler.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if parts.path == "/authorize":
            code = secrets.token_hex(8)
            self.nonces[code] = query["nonce"]
            self._redirect(handler, f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state']})}")
        elif parts.path == "/logout":
            self._redirect(handler, query["post_logout_redirect_uri"])
        elif parts.path == "/token":
            self._send(handler, self._token(parse_qs(body.decode())["code"][0]))
        elif parts.path == "/keys":
            self._send(handler, {"keys": [self.key.as_dict(private=False)]})
        else:
            self._send(handler, self._description())

    def _description(self) -> dict[str, Any]:
        return {
            "issuer": self.address,
            "authorization_endpoint": f"{self.address}/authorize",
            "token_endpoint": f"{self.address}/token",
            "jwks_uri": f"{self.address}/keys",
            "end_session_endpoint": f"{self.address}/logout",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "code_challenge_methods_supported": ["S256"],
        }

    def _token(self, code: str) -> dict[str, Any]:
        from joserfc import jwt

        now = int(time.time())
        stated = {"iss": self.address, "sub": self.subject, "aud": "shpeft", "iat": now, "exp": now + 300}
        stated |= {"nonce": self.nonces.pop(code), **self.claims}
        token = jwt.encode({"alg": "RS256", "kid": "1"}, stated, self.key)
        return {"access_token": "access", "token_type": "Bearer", "expires_in": 300, "id_token": token}

    def _redirect(self, handler: BaseHTTPRequestHandler, address: str) -> None:
        handler.send_response(302)
        handler.send_header("Location", address)
        handler.end_headers()

    def _send(self, handler: BaseHTTPRequestHandler, document: dict[str, Any]) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.end_headers()
        handler.wfile.write(json.dumps(document).encode())


@contextmanager
def providing() -> Iterator[Provider]:
    """Run the provider."""
    provider = Provider()
    threading.Thread(target=provider.server.serve_forever, daemon=True).start()
    try:
        yield provider
    finally:
        provider.server.shutdown()
        provider.server.server_close()


class NamingProxy:
    """A reverse proxy that reads the person from the browser's basic authentication, as a real one would.

    Attributes:
        port: it listens on this one.
    """

    def __init__(self, target: int) -> None:
        self.target, self.port = target, 0
        self.loop = asyncio.new_event_loop()

    async def open(self) -> None:
        """Listen."""
        self.server = await asyncio.start_server(self._connection, "127.0.0.1", self.port)
        self.port = self.server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Close all connections."""
        self.server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await asyncio.sleep(0.1)  # a closed transport gives its socket back in a later turn of the loop

    async def _connection(self, browser: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        try:
            await self._answer(browser, answer)
        except (asyncio.IncompleteReadError, OSError):  # the browser left, or the app is not up
            pass
        finally:
            answer.close()

    async def _answer(self, browser: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        head = (await browser.readuntil(b"\r\n\r\n")).decode("latin-1")
        lines = [line for line in head.split("\r\n") if line]
        given = [line.partition(":")[2].strip() for line in lines if line.lower().startswith("authorization: basic ")]
        if not given:
            answer.write(b"HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=a\r\nContent-Length: 0\r\n\r\n")
            return
        name = base64.b64decode(given[0].split()[1]).decode().partition(":")[0]
        lines = [line for line in lines if not line.lower().startswith(("x-forwarded-user:", "authorization:"))]
        if not any(line.lower().startswith("upgrade:") for line in lines):  # one request a connection
            lines = [line for line in lines if not line.lower().startswith("connection:")] + ["Connection: close"]
        lines.append(f"X-Forwarded-User: {name}")
        reader, writer = await asyncio.open_connection("127.0.0.1", self.target)
        try:
            writer.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
            await asyncio.gather(self._copy(browser, writer), self._copy(reader, answer), return_exceptions=True)
        finally:
            writer.close()

    async def _copy(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
        finally:
            sink.close()


@contextmanager
def naming_proxy(target: int, port: int = 0) -> Iterator[NamingProxy]:
    """Run the proxy in front of a port."""
    proxy = NamingProxy(target)
    proxy.port = port
    thread = threading.Thread(target=proxy.loop.run_forever, daemon=True)
    thread.start()  # the calling thread may run the browser's event loop
    asyncio.run_coroutine_threadsafe(proxy.open(), proxy.loop).result(10)
    try:
        yield proxy
    finally:
        asyncio.run_coroutine_threadsafe(proxy.close(), proxy.loop).result(10)
        proxy.loop.call_soon_threadsafe(proxy.loop.stop)
        thread.join(10)
        proxy.loop.close()

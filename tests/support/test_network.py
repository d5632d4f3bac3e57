"""Reachability checks against local servers and with a hanging name resolution."""

import http.server
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from shpeft.support.network import unreachable


@pytest.fixture
def server() -> Iterator[str]:
    """A server that answers every request with 404."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as local:
        threading.Thread(target=local.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{local.server_port}"
        local.shutdown()


def test_any_answer_counts(server: str) -> None:
    assert unreachable(server) is None


def test_a_refused_connection_has_a_reason() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    reason = unreachable(f"http://127.0.0.1:{port}")
    assert reason is not None
    assert "refused" in reason.lower()


def test_a_hanging_name_resolution_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(*_: object, **__: object) -> None:
        time.sleep(15)
        raise OSError("too late")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    begin = time.monotonic()
    assert unreachable("http://nowhere.invalid", timeout=0.2) == "no answer in 0.2 s"
    assert time.monotonic() - begin < 10

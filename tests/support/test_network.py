"""Whether a server can be reached: against servers of the test's own, and with a name resolution that hangs."""

import http.server
import socket
import threading
import time

import pytest

from shpeft.network import unreachable


@pytest.fixture
def server():
    """A server that answers every request with 404."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_error(404)

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{found.server_port}"
        found.shutdown()


def test_any_answer_counts(server):
    assert unreachable(server) is None


def test_a_refused_connection_has_a_reason():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    assert "refused" in unreachable(f"http://127.0.0.1:{port}").lower()


def test_a_hanging_name_resolution_is_given_up(monkeypatch):
    def hang(*_, **__):
        time.sleep(3)
        raise OSError("too late")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    start = time.monotonic()
    assert unreachable("http://nowhere.invalid", timeout=0.2) == "no answer in 0.2 s"
    assert time.monotonic() - start < 2

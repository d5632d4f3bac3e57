"""Check within seconds whether a server can be reached; download libraries would retry for minutes."""

import threading
import urllib.error
import urllib.request

TIMEOUT = 5.0
"""Seconds to wait for an answer before a server counts as unreachable."""


def unreachable(url: str, timeout: float | None = None) -> str | None:
    """Return why a server cannot be reached, or None if it answers with any status. Proxies are respected."""
    limit = TIMEOUT if timeout is None else timeout
    failure: list[str | None] = [f"no answer in {limit:g} s"]

    def request_head() -> None:
        try:
            request = urllib.request.Request(url, method="HEAD")
            urllib.request.urlopen(request, timeout=limit).close()
            failure[0] = None
        except urllib.error.HTTPError:  # an error status is an answer
            failure[0] = None
        except OSError as error:
            failure[0] = str(getattr(error, "reason", error)) or type(error).__name__

    thread = threading.Thread(target=request_head, daemon=True)  # name resolution has no timeout of its own
    thread.start()
    thread.join(limit)
    return failure[0]

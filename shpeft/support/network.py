"""Whether a server can be reached, answered within seconds: libraries that download would retry for minutes."""

import threading
import urllib.error
import urllib.request

TIMEOUT = 5.0
"""Seconds after which a server counts as out of reach."""


def unreachable(url: str, timeout: float | None = None) -> str | None:
    """Why a server cannot be reached, or None when it answers, with whatever status. Proxies are honoured."""
    limit = TIMEOUT if timeout is None else timeout
    failure: list[str | None] = [f"no answer in {limit:g} s"]

    def knock() -> None:
        try:
            request = urllib.request.Request(url, method="HEAD")
            urllib.request.urlopen(request, timeout=limit).close()
            failure[0] = None
        except urllib.error.HTTPError:  # an answer
            failure[0] = None
        except OSError as error:
            failure[0] = str(getattr(error, "reason", error)) or type(error).__name__

    thread = threading.Thread(target=knock, daemon=True)  # name resolution knows no timeout of its own
    thread.start()
    thread.join(limit)
    return failure[0]

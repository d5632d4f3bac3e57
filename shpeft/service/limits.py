"""What a request may ask of the service: a token, a rate, and a size."""

import hmac
import time
from collections.abc import Callable, Sequence

from starlette.requests import Request

BODY_BYTES = 2**29
"""Most bytes of a request; a CT series of 1,000 slices has about as many."""

MOST_WAITING = 16
"""Requests that wait for a model before others are sent away."""


class Refused(Exception):
    """A request that is not answered.

    Args:
        status: the HTTP status.
        sentence: why, and what to do.
        headers: of the response.
    """

    def __init__(self, status: int, sentence: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.status, self.sentence, self.headers = status, sentence, headers or {}


class RateLimit:
    """A bucket of requests that fills again with time.

    Args:
        per_minute: how many requests a minute are answered; as many may come at once.
        clock: returns seconds.

    Examples:
        >>> limit = RateLimit(2, clock=lambda: 0.0)
        >>> [limit.take(), limit.take(), limit.take()]
        [0.0, 0.0, 30.0]
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_minute, self.clock = per_minute, clock
        self.left, self.at = float(per_minute), clock()

    def take(self) -> float:
        """Take one request; return 0, or the seconds until there is one."""
        now = self.clock()
        self.left = min(self.per_minute, self.left + (now - self.at) * self.per_minute / 60)
        self.at = now
        if self.left < 1:
            return (1 - self.left) * 60 / self.per_minute
        self.left -= 1
        return 0.0


def check_token(request: Request, token: str) -> None:
    """Raise Refused unless the request carries the token: ``Authorization: Bearer TOKEN``."""
    given = request.headers.get("authorization", "")
    if not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
        raise Refused(
            401,
            "Send the token that shpeft serve printed: Authorization: Bearer TOKEN.",
            {"WWW-Authenticate": "Bearer"},
        )


def check_rate(limit: RateLimit) -> None:
    """Raise Refused if there were too many requests."""
    if seconds := limit.take():
        retry = {"Retry-After": str(max(1, round(seconds)))}
        raise Refused(429, f"At most {limit.per_minute} requests a minute are answered. Try again later.", retry)


def check_parameters(request: Request, names: Sequence[str]) -> None:
    """Raise Refused if the query has a parameter that is not among the names, or has one twice."""
    allowed = f"there are {' and '.join(names)}" if names else "there are none"
    asked = [name for name, _ in request.query_params.multi_items()]
    if set(asked) - set(names):
        raise Refused(422, f"There is no such parameter of the query; {allowed}.")
    if len(asked) > len(set(asked)):
        raise Refused(422, f"A parameter of the query is given twice; {allowed}.")


async def read_body(request: Request, most: int = BODY_BYTES) -> bytes:
    """Return the body; stop reading where it is too large.

    Raises:
        Refused: it is empty or too large.
    """
    parts, size = list[bytes](), 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise Refused(413, f"A request has at most {most // 2**20} MiB.")
        parts.append(part)
    if not size:
        raise Refused(422, "The request has no body. Send the bytes of an image, or of a zip of DICOM series.")
    return b"".join(parts)

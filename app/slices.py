"""Slices of a series at addresses of the app: the viewer fetches them while the reader scrolls, and no page is drawn.

An address holds a random token that only the page of the reader gets, and ends with the session that published it.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from shpeft.errors import ShpeftError

Read = Callable[[int], bytes]


@dataclass(eq=False)
class Slices:
    """The slices of a series as the viewer's messages; they can be fetched as long as somebody holds this object.

    Attributes:
        read: returns the message of a slice, counted from 0.
        count: the number of slices.
        token: unguessable.
    """

    read: Read
    count: int
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))

    @property
    def address(self) -> str:
        """What a slice's number is added to."""
        return f"/slices/{self.token}/"


_published: "WeakValueDictionary[str, Slices]" = WeakValueDictionary()


def publish(read: Read, count: int) -> Slices:
    """Give the slices of a series addresses, until the returned object is gone.

    Examples:
        >>> slices = publish(lambda number: b"", 3)
        >>> slices.address.startswith("/slices/")
        True
    """
    slices = Slices(read, count)
    _published[slices.token] = slices
    return slices


def answer(request: Request) -> Response:
    """Return a slice, or that there is none."""
    slices, number = _published.get(request.path_params["token"]), request.path_params["number"]
    if slices is None or number >= slices.count:
        return PlainTextResponse("There is no such slice.", 404)
    try:
        message = slices.read(number)
    except ShpeftError as error:
        return PlainTextResponse(str(error), 422)
    return Response(message, media_type="application/octet-stream", headers={"Cache-Control": "no-store"})


ROUTE = Route("/slices/{token:str}/{number:int}", answer)

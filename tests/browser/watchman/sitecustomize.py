"""Loaded first by the server under test: records every address outside this computer that it contacts."""

import os
import sys
from typing import Any

LOCAL = ("127.", "::1", "localhost", "0.0.0.0")


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    """Record the address of a connection or a name lookup, unless it is local."""
    if event == "socket.getaddrinfo":
        address = arguments[0]
    elif event == "socket.connect" and isinstance(arguments[1], tuple):
        address = arguments[1][0]
    else:
        return
    if address and not str(address).startswith(LOCAL):
        with open(os.environ["OUTSIDE"], "a") as notes:
            notes.write(f"{event} {address!r}\n")


sys.addaudithook(watch)

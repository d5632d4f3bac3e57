"""Loaded by the server under test before anything else: writes down each address beyond this computer that it wants."""

import os
import sys

HERE = ("127.", "::1", "localhost", "0.0.0.0")


def watch(event: str, arguments: tuple) -> None:
    """Note who is to be called or looked up, where that is not this computer."""
    if event == "socket.getaddrinfo":
        wanted = arguments[0]
    elif event == "socket.connect" and isinstance(arguments[1], tuple):
        wanted = arguments[1][0]
    else:
        return
    if wanted and not str(wanted).startswith(HERE):
        with open(os.environ["OUTSIDE"], "a") as notes:
            notes.write(f"{event} {wanted!r}\n")


sys.addaudithook(watch)

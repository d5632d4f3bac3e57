"""How long work tells its caller where it is, and how the caller stops it."""

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""``progress(stage, done, total)``: called often (every batch), from the thread that does the work.

``stage`` is a short English phrase for people. Raising :class:`shpeft.errors.Cancelled` stops the work at once.
"""


def silent(stage: str, done: int, total: int) -> None:
    """Report nothing."""

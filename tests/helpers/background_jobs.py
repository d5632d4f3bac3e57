"""Wait for jobs in the background."""

import time
from collections.abc import Callable

from shpeft.jobs import JobManager
from shpeft.runs import Snapshot

A_WHILE = 300.0
"""Seconds that a busy computer may take."""


def until(condition: Callable[[], object], timeout: float = A_WHILE) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def until_ended(manager: JobManager, run: str, timeout: float = A_WHILE) -> Snapshot:
    """Wait until a run is neither queued nor running; return its state."""
    until(lambda: manager.snapshot(run).status not in ("queued", "running"), timeout)
    return manager.snapshot(run)


def epochs(manager: JobManager, run: str) -> int:
    """Return how many epochs of a run are over."""
    return max((report.epoch for report in manager.snapshot(run).history), default=0)

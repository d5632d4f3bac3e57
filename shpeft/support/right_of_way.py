"""Right of way: background work waits between two steps while somebody waits for an answer on the same processor."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LONGEST = 10.0
"""Most seconds that background work waits in one go. It earns as many again by working as long, so that over any long
time it works at least half of it, however many requests there are."""

GLANCE = 0.1
"""Seconds after which waiting background work checks whether it is to end."""


class _Own(threading.local):
    """What one thread may still wait, in seconds, and when it went on working."""

    left: float = LONGEST
    resumed: float | None = None


class RightOfWay:
    """Counts the requests in hand; background work gives way to them between its steps.

    Waiting changes nothing but the time: the work's results have the same bits.

    Examples:
        >>> right_of_way = RightOfWay()
        >>> right_of_way.give_way()  # at once: nobody waits
        0.0
        >>> with right_of_way.claimed():
        ...     waited = right_of_way.give_way(lambda: True)  # asked to end, it waits no longer
        >>> round(waited, 1)
        0.0
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Start without requests; ``clock`` returns seconds."""
        self._clock = clock
        self._lock = threading.Lock()
        self._requests = 0
        self._free = threading.Event()
        self._free.set()
        self._own = _Own()

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Have the right of way in a ``with`` block; any number of threads may."""
        with self._lock:
            self._requests += 1
            self._free.clear()
        try:
            yield
        finally:
            with self._lock:
                self._requests -= 1
                if not self._requests:
                    self._free.set()

    def give_way(self, end: Callable[[], bool] = lambda: False) -> float:
        """Wait until no request is in hand, at most as long as this thread may; return the seconds waited.

        Args:
            end: whether to wait no longer; called every tenth of a second.
        """
        if self._free.is_set():
            return 0.0
        began = self._clock()
        worked = 0.0 if self._own.resumed is None else began - self._own.resumed
        until, now = began + min(self._own.left + worked, LONGEST), began
        while now < until and not end() and not self._free.wait(min(GLANCE, until - now)):
            now = self._clock()
        now = self._clock()
        self._own.left, self._own.resumed = max(0.0, until - now), now
        return now - began

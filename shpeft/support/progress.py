"""How long work tells its caller where it is, and how the caller stops it."""

import math
import time
from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""``progress(stage, done, total)``: called often (every batch), from the thread that does the work.

``stage`` is a short English phrase for people. Raising :class:`shpeft.errors.Cancelled` stops the work at once.
"""


def silent(stage: str, done: int, total: int) -> None:
    """Report nothing."""


class Eta:
    """Seconds left, from the smoothed pace."""

    EVIDENCE = 3.0
    """Seconds to watch before saying anything."""
    MEMORY = 20.0
    """Seconds after which an observation of the pace counts only 1/e."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Start without evidence."""
        self._clock = clock
        self._begin = self._last = clock()
        self._done = self._total = 0
        self._pace: float | None = None

    def update(self, done: int, total: int) -> float | None:
        """Take an observation; the seconds left, or None. Another total is other work, and starts afresh."""
        now = self._clock()
        if total != self._total or done < self._done:
            self._begin = self._last = now
            self._done, self._total, self._pace = done, total, None
        elif done > self._done and now > self._last:
            pace, share = (now - self._last) / (done - self._done), 1 - math.exp((self._last - now) / self.MEMORY)
            self._pace = pace if self._pace is None else share * pace + (1 - share) * self._pace
            self._last, self._done = now, done
        if self._pace is None or now - self._begin < self.EVIDENCE:
            return None
        return max(0.0, (total - self._done) * self._pace - (now - self._last))


def about(seconds: float) -> str:
    """A duration as an estimate deserves it: ``20 s``, ``4 min``, ``1 h 20 min``."""
    if seconds < 57.5:
        return f"{max(5, 5 * round(seconds / 5))} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, rest = divmod(10 * round(minutes / 10), 60)
    return f"{hours} h {rest} min" if rest else f"{hours} h"

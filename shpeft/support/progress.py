"""Progress callbacks, and estimates of the remaining time."""

import math
import time
from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""``progress(stage, done, total)``, called often (every batch) from the thread that does the work.

``stage`` is a short phrase for users. The callback may raise :class:`shpeft.errors.Cancelled` to stop the work.
"""


def silent(stage: str, done: int, total: int) -> None:
    """Report nothing."""


class Eta:
    """Estimate of the remaining seconds, from the exponentially smoothed pace."""

    EVIDENCE = 3.0
    """Seconds of observation before the first estimate."""
    MEMORY = 20.0
    """Seconds after which the weight of an observation has fallen to 1/e."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Start without observations; ``clock`` returns seconds."""
        self._clock = clock
        self._begin = self._last = clock()
        self._done = self._total = 0
        self._pace: float | None = None

    def update(self, done: int, total: int) -> float | None:
        """Add an observation; return the remaining seconds, or None while there is too little evidence.

        A new total means new work and restarts the estimate.
        """
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


def format_duration(seconds: float) -> str:
    """Return a duration with the precision of an estimate.

    Examples:
        >>> [format_duration(seconds) for seconds in (18, 250, 4700)]
        ['20 s', '4 min', '1 h 20 min']
    """
    if seconds < 57.5:
        return f"{max(5, 5 * round(seconds / 5))} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, rest = divmod(10 * round(minutes / 10), 60)
    return f"{hours} h {rest} min" if rest else f"{hours} h"

"""Seconds of work: a pause of the process, or a busy machine, does not count."""

import time

from shpeft.support.progress import Progress


class WorkClock:
    """A progress callback that adds up the seconds of work between its calls.

    Of the time between two calls, the processor time of this process counts, and at most the time by the wall clock,
    which several threads exceed together.

    Attributes:
        seconds: of work since the clock was made, up to the last call.
    """

    def __init__(self, inner: Progress):
        self._inner, self.seconds = inner, 0.0
        self._last = time.monotonic(), time.process_time()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Add the work since the last call, and pass the report on."""
        self.update()
        self._inner(stage, done, total)

    def update(self) -> float:
        """Add the work since the last call; return ``seconds``."""
        now = time.monotonic(), time.process_time()
        self.seconds += min(now[0] - self._last[0], now[1] - self._last[1])
        self._last = now
        return self.seconds

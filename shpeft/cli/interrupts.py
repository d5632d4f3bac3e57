"""Control-C during a run: stop training, or cancel."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shpeft.training.loop import EpochReport


class Interrupts:
    """Control-C ends training with its best epoch, once there is one; before that, or a second time, it cancels.

    Attributes:
        asked: whether training is to end; a run's ``stop`` reads it.
    """

    def __init__(self) -> None:
        """Begin without a request."""
        self.asked = False
        self._epochs = 0

    def count(self, show: "Callable[[EpochReport], None]") -> "Callable[[EpochReport], None]":
        """Return a callback that counts the finished epochs, not the start, and passes each report to ``show``."""

        def counting(report: "EpochReport") -> None:
            self._epochs += report.epoch > 0  # epoch 0 is the start
            show(report)

        return counting

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Handle Control-C inside the context; only the main thread can."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGINT, self._handle)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.asked or not self._epochs:
            raise KeyboardInterrupt
        self.asked = True
        print("Stopping: the best epoch so far is tested and kept. Control-C again cancels the run.", file=sys.stderr)

"""What Control-C means while a run is under way."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import typer


class Interrupts:
    """Control-C ends training with its best epoch, once there is one; before that, or a second time, it cancels.

    Attributes:
        asked: whether training is to end, for ``stop`` of a run.
    """

    def __init__(self) -> None:
        """Nothing was asked yet."""
        self.asked = False
        self._epochs = 0

    def count(self, tell: Callable[[object], None]) -> Callable[[object], None]:
        """Pass each epoch on to ``tell``, and note that there is one that could be kept."""

        def counting(report: object) -> None:
            self._epochs += 1
            tell(report)

        return counting

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Hear Control-C here; only the main thread can."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGINT, self._hear)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.asked or not self._epochs:
            raise KeyboardInterrupt
        self.asked = True
        typer.echo("Stopping: the best epoch so far is tested and kept. Control-C again cancels the run.", err=True)

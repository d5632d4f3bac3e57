"""A dataset that is opened in a thread, so that whoever waits for it can do other things, look at it and stop it."""

import atexit
import gc
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from shpeft.datasets.base import Dataset
from shpeft.datasets.sources import load_dataset
from shpeft.errors import Cancelled


class Opening:
    """What is known of a dataset that is being opened. Stopped when the process ends; the next one goes on from there.

    Attributes:
        progress: the stage, how much of it is done, and how much there is (0: nobody knows).
    """

    def __init__(self, source: str | Path, **options: Any):
        """Begin; the arguments are those of :func:`shpeft.load_dataset`."""
        self.progress: tuple[str, int, int] = ("Finding images", 0, 0)
        self._stop = threading.Event()
        self._future: Future[Dataset] = Future()
        self._thread = threading.Thread(target=self._work, args=(source, options), name="shpeft-dataset", daemon=True)
        _live.add(self)
        self._thread.start()

    @property
    def done(self) -> bool:
        """Whether there is a result, be it an error."""
        return self._future.done()

    def wait(self, seconds: float) -> bool:
        """Whether there is a result after so many seconds, or earlier."""
        return bool(wait([self._future], seconds).done)

    def result(self) -> Dataset:
        """The dataset, once it is there.

        Raises:
            DatasetError, MissingExtra, ConfigError: what opening it raised.
            Cancelled: it was stopped.
        """
        return self._future.result()

    def cancel(self, patience: float = 0.0) -> None:
        """Stop soon; wait for that at most so many seconds."""
        self._stop.set()
        self._thread.join(patience)

    def _report(self, stage: str, done: int, total: int) -> None:
        if self._stop.is_set():
            raise Cancelled
        self.progress = (stage, done, total)

    def _work(self, source: str | Path, options: dict[str, Any]) -> None:
        try:
            with _no_full_collections():
                found = load_dataset(source, progress=self._report, **options)
            self._future.set_result(found)
        except BaseException as error:  # handed to whoever asks for the result
            self._future.set_exception(error)


_thresholds: list[tuple[int, int, int]] = []
"""Of the garbage collector, as each opening under way found them."""

_lock = threading.Lock()


@contextmanager
def _no_full_collections() -> Iterator[None]:
    """Collect young garbage only: a pass over the objects of 100,000 cases halts all threads for up to a second."""
    with _lock:
        _thresholds.append(gc.get_threshold())
        gc.set_threshold(*_thresholds[0][:2], 10**6)
    try:
        yield
    finally:
        with _lock:
            first = _thresholds[0]
            _thresholds.pop()
            if not _thresholds:
                gc.set_threshold(*first)


_live: "weakref.WeakSet[Opening]" = weakref.WeakSet()


def _stop_all() -> None:
    openings = list(_live)
    for opening in openings:
        opening.cancel()
    for opening in openings:
        opening.cancel(patience=5.0)


# before the pools that decode are closed, which atexit alone comes after
getattr(threading, "_register_atexit", atexit.register)(_stop_all)

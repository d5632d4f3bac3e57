"""Load a dataset in a background thread that reports its progress and can be canceled."""

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


class BackgroundLoad:
    """A dataset that is loading in a thread; it is canceled when the process ends, and the next load resumes.

    Attributes:
        progress: the stage, the amount done, and the total amount (0 if unknown).
    """

    def __init__(self, source: str | Path, **options: Any):
        """Start loading; the arguments are those of :func:`shpeft.load_dataset`."""
        self.progress: tuple[str, int, int] = ("Finding images", 0, 0)
        self._stop = threading.Event()
        self._future: Future[Dataset] = Future()
        self._thread = threading.Thread(target=self._work, args=(source, options), name="shpeft-dataset", daemon=True)
        _live.add(self)
        self._thread.start()

    @property
    def done(self) -> bool:
        """Whether loading has ended, with a dataset or an error."""
        return self._future.done()

    def wait(self, seconds: float) -> bool:
        """Wait up to ``seconds``; return whether loading has ended."""
        return bool(wait([self._future], seconds).done)

    def result(self) -> Dataset:
        """Wait for the dataset and return it.

        Raises:
            DatasetError, MissingExtra, ConfigError: loading failed.
            Cancelled: loading was canceled.
        """
        return self._future.result()

    def cancel(self, patience: float = 0.0) -> None:
        """Request a stop, and wait for it up to ``patience`` seconds."""
        self._stop.set()
        self._thread.join(patience)

    def _report(self, stage: str, done: int, total: int) -> None:
        if self._stop.is_set():
            raise Cancelled
        self.progress = (stage, done, total)

    def _work(self, source: str | Path, options: dict[str, Any]) -> None:
        try:
            with _no_full_collections():
                dataset = load_dataset(source, progress=self._report, **options)
            self._future.set_result(dataset)
        except BaseException as error:  # raised by ``result``
            self._future.set_exception(error)


_thresholds: list[tuple[int, int, int]] = []
"""The garbage collector's thresholds at the start of each load in progress."""

_lock = threading.Lock()


@contextmanager
def _no_full_collections() -> Iterator[None]:
    """Prevent full garbage collections, which stop all threads for up to a second with 100,000 cases."""
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


_live: "weakref.WeakSet[BackgroundLoad]" = weakref.WeakSet()


def _stop_all() -> None:
    openings = list(_live)
    for opening in openings:
        opening.cancel()
    for opening in openings:
        opening.cancel(patience=5.0)


# threading's hook runs before the decoding pools are shut down, atexit after them
getattr(threading, "_register_atexit", atexit.register)(_stop_all)

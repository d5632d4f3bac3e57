"""Carry out tasks in the background: one thread per lane, first in, first out."""

import atexit
import concurrent.futures.thread  # noqa: F401 (see stop_at_exit)
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue

Task = Callable[[], None]


class WorkQueue:
    """Lanes of tasks. Tasks of one lane wait for each other; lanes run side by side.

    A task handles its own exceptions and decides for itself whether it is still needed when its turn comes. The thread
    of a lane starts with the lane's first task.
    """

    def __init__(self, name: str) -> None:
        """Prepare an empty queue; ``name`` begins the names of its threads."""
        self._name = name
        self._lock = threading.Lock()
        self._lanes: dict[str, SimpleQueue[Task | None]] = {}
        self._threads: list[threading.Thread] = []
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether the queue takes no more tasks."""
        return self._closed

    @property
    def alive(self) -> bool:
        """Whether a thread of the queue is running."""
        return any(thread.is_alive() for thread in self._threads)

    def put(self, lane: str, task: Task) -> None:
        """Queue a task.

        Raises:
            RuntimeError: the queue is closed.
        """
        with self._lock:
            if self._closed:
                raise RuntimeError(f"The queue {self._name} is closed.")
            if lane not in self._lanes:
                tasks = self._lanes[lane] = SimpleQueue()
                thread = threading.Thread(target=_carry_out, args=(tasks,), name=f"{self._name}-{lane}", daemon=True)
                self._threads.append(thread)
                thread.start()
            self._lanes[lane].put(task)

    def close(self) -> None:
        """Take no more tasks; each thread ends after the tasks that are queued."""
        with self._lock:
            if not self._closed:
                self._closed = True
                for tasks in self._lanes.values():
                    tasks.put(None)

    def join(self, patience: float) -> None:
        """Wait for the threads of a closed queue, at most ``patience`` seconds."""
        deadline = time.monotonic() + patience
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))


def _carry_out(tasks: "SimpleQueue[Task | None]") -> None:
    while (task := tasks.get()) is not None:
        task()


def stop_at_exit(stop: Callable[[], None]) -> None:
    """Call ``stop`` when the process ends, before thread pools close, which decoding in a worker relies on.

    ``atexit`` alone comes after the pools. ``threading._register_atexit`` is what the pools themselves use; it calls
    back in reverse order, and ``concurrent.futures.thread`` has been imported, so registered, before.
    """
    getattr(threading, "_register_atexit", atexit.register)(stop)

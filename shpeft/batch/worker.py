"""Batches in the background: one after the other, watched and stopped from any thread.

What a batch has found is its CSV. Here is only what is under way in this process: the files that were given, which are
nowhere else, and how far the work is. A batch of an earlier process is gone on with when its files are given again.
"""

import atexit
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from shpeft.batch.folder import BatchFolder, new_batch
from shpeft.batch.running import BatchResult, diagnose_batch
from shpeft.batch.sources import open_source
from shpeft.errors import Cancelled, RunError, ShpeftError, notes
from shpeft.pipeline import load_run
from shpeft.progress import Eta
from shpeft.runs import RunFolder
from shpeft.runs.formats import traceback_text

Place = str | Path | bytes
Status = Literal["waiting", "running", "finished", "stopped", "failed"]

TURN = 0.1
"""Seconds between two looks at whether the batch before has ended."""


@dataclass(frozen=True)
class BatchSnapshot:
    """Where a batch stands.

    Attributes:
        status: ``stopped`` can be gone on with.
        stage, done, total: what is being done, and how much of it.
        eta_seconds: what is left, None before there is evidence.
        message: why it failed; ``files`` are what that is about, for whoever gave them.
        result: the files by name, while this process remembers them.
        again: whether this process still has the files, so that it can go on without being given them.
    """

    name: str
    status: Status
    stage: str = ""
    done: int = 0
    total: int = 0
    eta_seconds: float | None = None
    message: str = ""
    files: tuple[str, ...] = ()
    result: BatchResult | None = None
    again: bool = False

    @property
    def active(self) -> bool:
        """Whether it will change by itself."""
        return self.status in ("waiting", "running")

    @property
    def fraction(self) -> float:
        """From 0 to 1."""
        return min(1.0, self.done / self.total) if self.total else 0.0


@dataclass
class _Work:
    """A batch of this process; the worker's lock guards it."""

    run: RunFolder
    folder: BatchFolder
    places: tuple[Place, ...] | None
    snapshot: BatchSnapshot
    eta: Eta = field(default_factory=Eta)
    stop: bool = False
    thread: threading.Thread | None = None


class BatchWorker:
    """Carries out one batch at a time. Each has a copy of its run's model to itself."""

    def __init__(self) -> None:
        """Prepare; no thread is started before the first batch."""
        self._lock, self._turn = threading.Lock(), threading.Lock()
        self._works: dict[Path, _Work] = {}
        self._closed = False

    def start(self, run: RunFolder, places: Sequence[Place]) -> BatchFolder:
        """Begin a batch of folders, zips and files in the background.

        Raises:
            RunError: the run's folder cannot be written, or shpeft is closing.
        """
        folder = new_batch(run)
        self.go_on(run, folder, places)
        return folder

    def go_on(self, run: RunFolder, folder: BatchFolder, places: Sequence[Place] | None = None) -> None:
        """Go on with a batch that was stopped; without effect on one that is under way.

        Args:
            places: the same files; None where this process still has them.

        Raises:
            RunError: the files are no longer there, or shpeft is closing.
        """
        with self._lock:
            old = self._works.get(folder.path)
            if old is not None and old.snapshot.active:
                return
            kept = tuple(places) if places is not None else None if old is None else old.places
            if self._closed or kept is None:
                why = "shpeft is closing." if self._closed else "Its files are needed: give them again."
                raise RunError(f"The batch {folder.name} cannot be gone on with. {why}")
            work = _Work(run, folder, kept, BatchSnapshot(folder.name, "waiting", "waiting for another batch"))
            self._works[folder.path] = work
            work.thread = threading.Thread(target=self._carry_out, args=(work,), name="shpeft-batch", daemon=True)
            work.thread.start()

    def snapshot(self, folder: BatchFolder) -> BatchSnapshot:
        """Where a batch stands, of this process or of an earlier one."""
        with self._lock:
            if folder.path in self._works:
                return self._works[folder.path].snapshot
        total, _ = folder.totals()
        done = folder.summary().done
        return BatchSnapshot(folder.name, "finished" if total and done == total else "stopped", "", done, total)

    def stop(self, folder: BatchFolder) -> None:
        """Stop a batch after the image it is at; the rows until then stay."""
        with self._lock:
            if folder.path in self._works:
                self._works[folder.path].stop = True

    def discard(self, folder: BatchFolder) -> None:
        """Delete a batch, and forget its files."""
        self.stop(folder)
        with self._lock:
            work = self._works.pop(folder.path, None)
        if work is not None and work.thread is not None:
            work.thread.join()
        folder.discard()

    def shutdown(self, patience: float = 30.0) -> None:
        """Stop everything and wait for it, up to ``patience`` seconds for each batch."""
        with self._lock:
            self._closed = True
            works = list(self._works.values())
            for work in works:
                work.stop = True
        for work in works:
            if work.thread is not None:
                work.thread.join(patience)

    # -- the thread's side

    def _carry_out(self, work: _Work) -> None:
        """From its turn to its end; no exception leaves the thread."""
        try:
            while not self._turn.acquire(timeout=TURN):
                self._tell(work, "waiting for another batch", 0, 0)
            try:
                result = self._diagnose(work)
            finally:
                self._turn.release()
            self._end(work, "finished", result=result)
        except Cancelled:
            self._end(work, "stopped")
        except ShpeftError as error:
            self._end(work, "failed", message=str(error), files=tuple(notes(error)))
        except Exception as error:
            words = f"This is a bug in shpeft ({type(error).__name__})."
            self._end(work, "failed", message=words, files=tuple(traceback_text(error).splitlines()))

    def _diagnose(self, work: _Work) -> BatchResult:
        def progress(stage: str, done: int, total: int) -> None:
            self._tell(work, stage, done, total)

        progress("loading the model", 0, 0)
        loaded = load_run(work.run)
        with open_source(work.places or (), progress) as source:
            work.folder.write_total(len(source.entries), source.others)
            return diagnose_batch(loaded, source, work.folder.results, progress=progress)

    def _tell(self, work: _Work, stage: str, done: int, total: int) -> None:
        with self._lock:
            if work.stop or not threading.main_thread().is_alive():
                raise Cancelled
            status: Status = "waiting" if stage.startswith("waiting") else "running"
            eta = work.eta.update(done, total)
            work.snapshot = replace(work.snapshot, status=status, stage=stage, done=done, total=total, eta_seconds=eta)

    def _end(
        self,
        work: _Work,
        status: Status,
        message: str = "",
        files: tuple[str, ...] = (),
        result: BatchResult | None = None,
    ) -> None:
        (total, _), done = work.folder.totals(), work.folder.summary().done
        with self._lock:
            if status == "finished":
                work.places = None
            again = work.places is not None
            work.snapshot = BatchSnapshot(
                work.folder.name, status, "", done, total, None, message, files, result, again
            )


_worker: BatchWorker | None = None
_making = threading.Lock()


def worker() -> BatchWorker:
    """The process's worker; it stops by itself when the process ends."""
    global _worker
    with _making:
        if _worker is None:
            _worker = BatchWorker()
            getattr(threading, "_register_atexit", atexit.register)(_worker.shutdown)
        return _worker

"""Runs in the background: one worker thread a device, a queue, and snapshots that any thread may read.

The worker knows nothing of who watches it. A job lives here while it is queued or running; what it found lives in its
run folder, so a run of an earlier process can be looked at in the same way.
"""

import atexit
import concurrent.futures.thread  # noqa: F401 (see _at_exit)
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Protocol

from shpeft.config import RunConfig
from shpeft.errors import Cancelled, RunError, ShpeftError
from shpeft.progress import Eta, Progress
from shpeft.runs import RunFolder, Snapshot, delete_run, find_run, new_run, runs_root
from shpeft.runs.state import Interrupted, Status

if TYPE_CHECKING:
    from shpeft.training import EpochReport

PATIENCE = 30.0
"""Seconds that a process which ends waits for its workers to put everything back."""


class Execute(Protocol):
    """The recipe that a worker carries out, :func:`shpeft.pipeline.run` by default."""

    def __call__(
        self,
        config: RunConfig,
        folder: RunFolder,
        *,
        progress: Progress,
        on_epoch: "Callable[[EpochReport], None] | None",
        stop: Callable[[], bool],
    ) -> object:
        """Carry out the run and write down in the folder how it ended."""
        ...


@dataclass
class _Job:
    """A queued or running job; ``lock`` of the manager guards it."""

    folder: RunFolder
    device: str
    snapshot: Snapshot
    cancelled: type[Cancelled] | None = None
    eta: Eta = field(default_factory=Eta)


class JobManager:
    """Carries out runs one after the other on each device."""

    def __init__(
        self,
        root: Path | None = None,
        execute: Execute | None = None,
        device_of: Callable[[str], object] | None = None,
    ) -> None:
        """Prepare; no thread is started before the first job.

        Args:
            root: where run folders are made.
            execute: the recipe.
            device_of: which device a configuration's ``device`` means; jobs of one device wait for each other.
        """
        self.root = Path(root) if root is not None else runs_root()
        self._execute = execute or _run
        self._device_of = device_of or _device
        self._lock = threading.Lock()
        self._jobs: dict[str, _Job] = {}
        self._queues: dict[str, SimpleQueue[_Job | None]] = {}
        self._threads: list[threading.Thread] = []
        self._closed = False

    def submit(self, config: RunConfig, name: str = "") -> str:
        """Queue a run and return its name.

        Raises:
            RunError: the name is taken or no name, or shpeft is closing.
            BackboneError: this machine does not have the device.
        """
        device = str(self._device_of(config.device))
        with self._lock:
            self._check_open()
            folder = new_run(config, self.root, name)
            self._queue(folder, device)
        return folder.name

    def resume(self, run: str) -> None:
        """Queue a run that ended without being finished; it goes on after its last whole epoch.

        Raises:
            RunError: there is no such run, it is finished, or it is under way.
            BackboneError: this machine does not have the device.
        """
        folder = find_run(run, self.root)
        device = str(self._device_of(folder.config.device))
        with self._lock:
            self._check_open()
            folder.queue_again()
            self._queue(folder, device)

    def _check_open(self) -> None:
        if self._closed:
            raise RunError("shpeft is closing and takes no new runs. Start it again.")

    def _queue(self, folder: RunFolder, device: str) -> None:
        """Hand a job to its device's worker, which the first job starts."""
        job = _Job(folder, device, Snapshot(folder.name, "queued"))
        self._jobs[folder.name] = job
        if device not in self._queues:
            waiting = self._queues[device] = SimpleQueue()
            thread = threading.Thread(target=self._work, args=(waiting,), name=f"shpeft-{device}", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._queues[device].put(job)

    def snapshot(self, run: str) -> Snapshot:
        """Where a run stands, of this process or of an earlier one.

        Raises:
            RunError: there is no such run, or it is damaged.
        """
        with self._lock:
            if run in self._jobs:
                return self._jobs[run].snapshot
        return Snapshot.of(find_run(run, self.root))

    def stop(self, run: str) -> None:
        """End a run's training after the present step; the best epoch so far is tested and kept as a finished run.

        A run of another process is asked through its folder. Without effect on a run that waits or has ended.
        """
        with self._lock:
            job = self._jobs.get(run)
            if job is not None and job.snapshot.status == "running" and not job.snapshot.ending:
                job.snapshot = replace(job.snapshot, ending="stop")
        if job is None:
            with suppress(RunError):
                find_run(run, self.root).ask("stop")

    def discard(self, run: str) -> None:
        """Stop a run and put it into the trash: one that waits at once, one under way at its next batch.

        A run of another process is asked through its folder. Without effect on a run that has ended.
        """
        with self._lock:
            job = self._jobs.get(run)
            if job is not None:
                job.cancelled = job.cancelled or Cancelled
                job.snapshot = replace(job.snapshot, ending="discard")
        if job is None:
            with suppress(RunError):
                find_run(run, self.root).ask("discard")
        elif job.snapshot.status == "queued":
            self._finish(job, "cancelled", "Taken out of the queue before it began.")

    def active(self) -> str | None:
        """The run that is under way, the oldest where there are several devices."""
        with self._lock:
            return next((name for name, job in self._jobs.items() if job.snapshot.status == "running"), None)

    def queue(self) -> tuple[str, ...]:
        """The runs that wait, in order."""
        with self._lock:
            return tuple(name for name, job in self._jobs.items() if job.snapshot.status == "queued")

    def ahead(self, run: str) -> tuple[str, ...]:
        """The runs that this one waits for: those before it on its device."""
        with self._lock:
            names = list(self._jobs)
            if run not in names:
                return ()
            before = names[: names.index(run)]
            return tuple(name for name in before if self._jobs[name].device == self._jobs[run].device)

    def shutdown(self, patience: float = PATIENCE) -> None:
        """Stop everything and wait for the workers; what was under way or waiting reads as interrupted."""
        with self._lock:
            self._closed = True
            jobs = list(self._jobs.values())
            for job in jobs:
                job.cancelled = job.cancelled or Interrupted
            for waiting in self._queues.values():
                waiting.put(None)
        for job in jobs:
            if job.snapshot.status == "queued":
                self._finish(job, "interrupted", "shpeft was closed before it began.")
        deadline = time.monotonic() + patience
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    # -- the worker's side

    def _heed(self) -> None:
        """Take what other processes ask, also of the runs that wait."""
        for job in tuple(self._jobs.values()):
            if (asked := job.folder.ending) and asked != job.snapshot.ending:
                (self.stop if asked == "stop" else self.discard)(job.folder.name)

    def _work(self, waiting: SimpleQueue[_Job | None]) -> None:
        """Carry out jobs until the sentinel comes; no exception leaves this loop."""
        while (job := waiting.get()) is not None:
            with self._lock:
                if job.cancelled is not None or job.snapshot.status != "queued":
                    continue
                job.snapshot = replace(job.snapshot, status="running", stage="Starting")
            try:
                self._execute(
                    job.folder.config,
                    job.folder,
                    progress=lambda stage, done, total, job=job: self._progress(job, stage, done, total),  # type: ignore[misc]
                    on_epoch=lambda report, job=job: self._epoch(job, report),  # type: ignore[misc]
                    stop=lambda job=job: job.snapshot.ending == "stop",  # type: ignore[misc]
                )
                failure = "The run ended without saying how."
            except BaseException as error:  # the folder holds the sentence or the traceback; the next job must go on
                failure = str(error) if isinstance(error, ShpeftError) else f"{type(error).__name__} stopped the run."
            self._finish(job, "failed", failure)

    def _progress(self, job: _Job, stage: str, done: int, total: int) -> None:
        """Take progress from the worker, and stop it when that was asked."""
        self._heed()
        with self._lock:
            if job.cancelled is not None:
                raise job.cancelled
            if not threading.main_thread().is_alive():  # the interpreter has begun to end
                raise Interrupted
            job.snapshot = replace(
                job.snapshot,
                stage=stage,
                done=done,
                total=total,
                fraction=max(job.snapshot.fraction, min(1.0, done / total if total else 0.0)),
                eta_seconds=job.eta.update(done, total),
            )

    def _epoch(self, job: _Job, report: "EpochReport") -> None:
        with self._lock:
            job.snapshot = replace(job.snapshot, history=(*job.snapshot.history, report))

    def _finish(self, job: _Job, status: Status, message: str) -> None:
        """Let go of a job: its folder tells how it ended, or is told when the recipe did not, or goes to the trash."""
        try:
            if not job.folder.state.ended:
                job.folder.set_state(status, message=message)
            if "discard" in (job.snapshot.ending, job.folder.ending):
                job.folder.release()
                delete_run(job.folder)
        except (ShpeftError, OSError):  # the folder was deleted or cannot be written: nothing is left to tell
            pass
        finally:
            job.folder.release()
        with self._lock:
            if self._jobs.get(job.folder.name) is job:
                del self._jobs[job.folder.name]


def _run(config: RunConfig, folder: RunFolder, **options: Any) -> object:
    """The pipeline, loaded by the first run: it brings torch."""
    from shpeft import pipeline

    return pipeline.run(config, folder, **options)


def _device(device: str) -> object:
    from shpeft.backbones import resolve_device

    return resolve_device(device)


_managers: dict[Path, JobManager] = {}
_managers_lock = threading.Lock()


def manager(root: Path | None = None) -> JobManager:
    """The process's manager of the runs under ``root``; it stops by itself when the process ends."""
    place = (Path(root) if root is not None else runs_root()).resolve()
    with _managers_lock:
        if place not in _managers:
            _managers[place] = JobManager(place)
            _at_exit(_managers[place].shutdown)
        return _managers[place]


def _at_exit(stop: Callable[[], None]) -> None:
    """Call ``stop`` when the process ends, and before thread pools close, which decoding in a worker relies on.

    ``atexit`` alone comes after the pools. ``threading._register_atexit`` is what the pools themselves use; it calls
    back in reverse order, and ``concurrent.futures.thread`` has been imported, so registered, before.
    """
    getattr(threading, "_register_atexit", atexit.register)(stop)

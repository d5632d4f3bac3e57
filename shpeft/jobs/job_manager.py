"""Run configurations in the background: one worker thread per device, a queue, and snapshots for any thread.

A job exists while it is queued or running. Its results are in its run folder, so runs of earlier processes are read in
the same way.
"""

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from shpeft.config.schema import RunConfig
from shpeft.errors import Cancelled, Interrupted, RunError, ShpeftError
from shpeft.jobs.engines import VARIABLE, Engine, engine_named, run_on
from shpeft.runs import RunFolder, Snapshot, delete_run, find_run, new_run, runs_root
from shpeft.runs.owner import Account, write_owner
from shpeft.runs.state import Status
from shpeft.runs.uploads import check_may_see
from shpeft.support.progress import Eta, Progress
from shpeft.support.right_of_way import RightOfWay
from shpeft.support.work_queue import WorkQueue, stop_at_exit

if TYPE_CHECKING:
    from shpeft.training.loop import EpochReport

PATIENCE = 30.0
"""Seconds that an exiting process waits for its workers to restore models and release locks."""


class Execute(Protocol):
    """The function that a worker calls, :func:`shpeft.pipeline.run` by default."""

    def __call__(
        self,
        config: RunConfig,
        folder: RunFolder,
        *,
        progress: Progress,
        on_epoch: "Callable[[EpochReport], None] | None",
        stop: Callable[[], bool],
    ) -> object:
        """Carry out the run, and record in the folder how it ended."""
        ...


@dataclass
class _Job:
    """A queued or running job; ``lock`` of the manager guards it. Jobs of one ``device`` wait for each other."""

    folder: RunFolder
    device: str
    snapshot: Snapshot
    cancelled: type[Cancelled] | None = None
    eta: Eta = field(default_factory=Eta)


class JobManager:
    """Run configurations: one at a time on each device.

    Attributes:
        root: the folder of the run folders.
        right_of_way: what somebody waits for claims it; runs then wait between two steps, within bounds.
    """

    def __init__(
        self,
        root: Path | None = None,
        execute: Execute | None = None,
        device_of: Callable[[str], object] | None = None,
        engine: Engine | None = None,
    ) -> None:
        """Create a manager; the first job of a device starts the device's thread.

        Args:
            root: the folder of the run folders.
            execute: carries out one run.
            device_of: resolves a configuration's ``device``; jobs of one device wait for each other.
            engine: carries out the runs instead; an engine that schedules gets all of them at once.
        """
        self.root = Path(root) if root is not None else runs_root()
        self.right_of_way = RightOfWay()
        self._execute = execute or (_run if engine is None else _by_engine(engine))
        self._schedules = engine is not None and engine.schedules
        self._device_of = device_of or (str if self._schedules else _device)
        self._lock = threading.Lock()
        self._jobs: dict[str, _Job] = {}
        self._devices = WorkQueue("shpeft")

    def submit(self, config: RunConfig, name: str = "", account: Account | None = None) -> str:
        """Queue a run and return its name.

        Args:
            config: what to run.
            name: of the run; by default one with the date.
            account: whose the run is, in an app with accounts.

        Raises:
            DatasetError: the images are another account's.
            RunError: the name is taken or invalid, or shpeft is closing.
            BackboneError: this machine does not have the device.
        """
        check_may_see(config.dataset.source, account)
        device = str(self._device_of(config.device))
        with self._lock:
            self._check_open()
            folder = new_run(config, self.root, name)
            write_owner(folder.path, account)
            self._queue(folder, device)
        return folder.name

    def resume(self, run: str, account: Account | None = None) -> None:
        """Queue an unfinished run; it resumes after its last complete epoch.

        Args:
            run: its name.
            account: who asks, in an app with accounts.

        Raises:
            DatasetError: the images are another account's.
            RunError: there is no such run, or it is finished or running.
            BackboneError: this machine does not have the device.
        """
        folder = find_run(run, self.root)
        check_may_see(folder.config.dataset.source, account)
        device = str(self._device_of(folder.config.device))
        with self._lock:
            self._check_open()
            folder.state.queue_again()
            self._queue(folder, device)

    def _check_open(self) -> None:
        if self._devices.closed:
            raise RunError("shpeft is closing and accepts no new runs. Restart it.")

    def _queue(self, folder: RunFolder, device: str) -> None:
        """Queue a job on its device."""
        job = _Job(folder, folder.name if self._schedules else device, Snapshot(folder.name, "queued"))
        self._jobs[folder.name] = job
        self._devices.put(job.device, lambda: self._carry_out(job))

    def snapshot(self, run: str) -> Snapshot:
        """Return the state of a run of this process or an earlier one.

        Raises:
            RunError: there is no such run, or it is damaged.
        """
        with self._lock:
            if run in self._jobs:
                return self._jobs[run].snapshot
        return Snapshot.of(find_run(run, self.root))

    def stop(self, run: str) -> None:
        """End a run's training after the current step; the best epoch so far is tested and saved as a finished run.

        Before the first epoch there is nothing to save: the run is cancelled, and can be resumed. A run of another
        process gets the request through its folder. No effect on a run that is queued or has ended.
        """
        with self._lock:
            job = self._jobs.get(run)
            if job is not None and job.snapshot.status == "running" and not job.snapshot.end_request:
                job.snapshot = replace(job.snapshot, end_request="stop")
                if not any(report.epoch for report in job.snapshot.history) and not job.folder.checkpoint.exists:
                    job.cancelled = job.cancelled or Cancelled
        if job is None:
            with suppress(RunError):
                find_run(run, self.root).state.request_end("stop")

    def discard(self, run: str) -> None:
        """Stop a run and move it to the trash: a queued run at once, a running one at its next batch.

        A run of another process gets the request through its folder. No effect on a run that has ended.
        """
        with self._lock:
            job = self._jobs.get(run)
            if job is not None:
                job.cancelled = job.cancelled or Cancelled
                job.snapshot = replace(job.snapshot, end_request="discard")
        if job is None:
            with suppress(RunError):
                find_run(run, self.root).state.request_end("discard")
        elif job.snapshot.status == "queued":
            self._finish(job, "cancelled", "Removed from the queue before it started.")

    def active(self) -> str | None:
        """Return the running run, the oldest if several devices are busy."""
        with self._lock:
            return next((name for name, job in self._jobs.items() if job.snapshot.status == "running"), None)

    def queue(self) -> tuple[str, ...]:
        """Return the queued runs, in order."""
        with self._lock:
            return tuple(name for name, job in self._jobs.items() if job.snapshot.status == "queued")

    def ahead(self, run: str) -> tuple[str, ...]:
        """Return the runs that this one waits for: those before it on its device."""
        with self._lock:
            names = list(self._jobs)
            if run not in names:
                return ()
            before = names[: names.index(run)]
            return tuple(name for name in before if self._jobs[name].device == self._jobs[run].device)

    def shutdown(self, patience: float = PATIENCE) -> None:
        """Stop all work and wait for the workers; unfinished runs become interrupted."""
        with self._lock:
            jobs = list(self._jobs.values())
            for job in jobs:
                job.cancelled = job.cancelled or Interrupted
            self._devices.close()
        for job in jobs:
            if job.snapshot.status == "queued":
                self._finish(job, "interrupted", "shpeft was closed before it started.")
        self._devices.join(patience)

    # -- in the worker's thread

    def _apply_requests(self) -> None:
        """Apply the requests of other processes, also to queued runs."""
        for job in tuple(self._jobs.values()):
            if (asked := job.folder.state.end_request) and asked != job.snapshot.end_request:
                (self.stop if asked == "stop" else self.discard)(job.folder.name)

    def _carry_out(self, job: _Job) -> None:
        """Carry out a job that is still queued; no exception leaves this function."""
        with self._lock:
            if job.cancelled is not None or job.snapshot.status != "queued":
                return
            job.snapshot = replace(job.snapshot, status="running", stage="Starting")
        try:
            self._execute(
                job.folder.config,
                job.folder,
                progress=lambda stage, done, total: self._progress(job, stage, done, total),
                on_epoch=lambda report: self._epoch(job, report),
                stop=lambda: job.snapshot.end_request == "stop",
            )
            failure = "The run ended without recording its state."
        except BaseException as error:  # the folder holds the sentence or the traceback; the next job must go on
            failure = str(error) if isinstance(error, ShpeftError) else f"{type(error).__name__} stopped the run."
        self._finish(job, "failed", failure)

    def _progress(self, job: _Job, stage: str, done: int, total: int) -> None:
        """Record the worker's progress, and give way to requests in hand; raise if the job was cancelled."""
        self._apply_requests()
        self.right_of_way.give_way(lambda: job.cancelled is not None or bool(job.snapshot.end_request))
        with self._lock:
            if job.cancelled is not None:
                raise job.cancelled
            if not threading.main_thread().is_alive():  # the interpreter is exiting
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
            past = job.snapshot.history if report.epoch else ()  # a start begins the training of another budget
            job.snapshot = replace(job.snapshot, history=(*past, report))

    def _finish(self, job: _Job, status: Status, message: str) -> None:
        """Release a job: record how it ended if its folder does not say so, or move the folder to the trash."""
        try:
            if not job.folder.state.read().ended:
                job.folder.state.change(status, message=message)
            if "discard" in (job.snapshot.end_request, job.folder.state.end_request):
                job.folder.state.unlock()
                delete_run(job.folder)
        except (ShpeftError, OSError):  # the folder was deleted or cannot be written: nothing to record
            pass
        finally:
            job.folder.state.unlock()
        with self._lock:
            if self._jobs.get(job.folder.name) is job:
                del self._jobs[job.folder.name]


def _run(config: RunConfig, folder: RunFolder, **options: Any) -> object:
    """Run the pipeline; imported here because it loads torch."""
    from shpeft import pipeline

    return pipeline.run(config, folder, **options)


def _by_engine(engine: Engine) -> Execute:
    """Return the function that has an engine carry out a run."""

    def execute(config: RunConfig, folder: RunFolder, **callbacks: Any) -> None:
        run_on(engine, folder, **callbacks)

    return execute


def _device(device: str) -> object:
    from shpeft.backbones import resolve_device

    return resolve_device(device)


_managers: dict[Path, JobManager] = {}
_managers_lock = threading.Lock()


def manager(root: Path | None = None) -> JobManager:
    """Return the process's manager of the runs under ``root``; it stops when the process exits.

    ``$SHPEFT_ENGINE`` names the engine that carries out its runs.
    """
    path = (Path(root) if root is not None else runs_root()).resolve()
    with _managers_lock:
        if path not in _managers:
            _managers[path] = JobManager(path, engine=engine_named(os.environ.get(VARIABLE, "thread")))
            stop_at_exit(_managers[path].shutdown)
        return _managers[path]

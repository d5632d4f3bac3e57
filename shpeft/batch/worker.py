"""Run batches in the background, one after the other; any thread may watch and stop them.

The results of a batch are in its CSV. The worker holds only its input files, which are stored nowhere, and its
progress. A batch of an earlier process is resumed when its files are given again.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from shpeft.batch.diagnose import BatchResult, diagnose_batch
from shpeft.batch.folder import BatchFolder, new_batch
from shpeft.batch.inputs import open_source
from shpeft.batch.series import by_series
from shpeft.config.schema import SeriesRule
from shpeft.errors import Cancelled, RunError, ShpeftError, notes_of
from shpeft.pipeline import load_run
from shpeft.runs import RunFolder
from shpeft.runs.audit import Record, recorder
from shpeft.runs.owner import Account, write_owner
from shpeft.support.environment import traceback_text
from shpeft.support.progress import Eta
from shpeft.support.work_queue import WorkQueue, stop_at_exit

Input = str | Path | bytes
Status = Literal["waiting", "running", "finished", "stopped", "failed"]


@dataclass(frozen=True)
class BatchSnapshot:
    """The state of a batch at one moment.

    Attributes:
        name: the name of the batch.
        status: a ``stopped`` batch can be resumed.
        stage: the current stage, as shown to the user.
        done: how much of ``total`` is done.
        total: number of files of this stage.
        eta_seconds: estimated remaining seconds, None before there is an estimate.
        message: why it failed.
        files: the files that ``message`` is about, for the user.
        result: file names and errors, while this process has them.
        again: whether this process still has the input files.
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
        """Whether it is waiting or running."""
        return self.status in ("waiting", "running")

    @property
    def fraction(self) -> float:
        """The share that is done, from 0 to 1."""
        return min(1.0, self.done / self.total) if self.total else 0.0


@dataclass
class _Work:
    """A batch of this process; the worker's lock guards it."""

    run: RunFolder
    folder: BatchFolder
    inputs: tuple[Input, ...] | None
    snapshot: BatchSnapshot
    record: Record | None = None
    rule: SeriesRule | None = None
    eta: Eta = field(default_factory=Eta)
    stop: bool = False
    ended: threading.Event = field(default_factory=threading.Event)


class BatchWorker:
    """Runs one batch at a time, each with its own copy of the model."""

    def __init__(self) -> None:
        """Prepare; no thread is started before the first batch."""
        self._lock = threading.Lock()
        self._works: dict[Path, _Work] = {}
        self._batches = WorkQueue("shpeft")

    def submit(
        self,
        run: RunFolder,
        inputs: Sequence[Input],
        account: Account | None = None,
        rule: SeriesRule | None = None,
    ) -> BatchFolder:
        """Start a batch of folders, zips and files in the background.

        Args:
            run: the run whose model diagnoses.
            inputs: paths, or contents of zips.
            account: whose the batch is, in an app with accounts.
            rule: how a series is answered; None: every image is a case.

        Raises:
            RunError: the run's folder cannot be written, or shpeft is closing.
        """
        folder = new_batch(run)
        write_owner(folder.path, account)
        self.resume(run, folder, inputs, account, rule)
        return folder

    def resume(
        self,
        run: RunFolder,
        folder: BatchFolder,
        inputs: Sequence[Input] | None = None,
        account: Account | None = None,
        rule: SeriesRule | None = None,
    ) -> None:
        """Resume a stopped batch; without effect on one that is waiting or running.

        Args:
            inputs: the same files; None where this process still has them.
            account: who asks, for the audit log of an app with accounts.
            rule: the same as before, with the same files.

        Raises:
            RunError: the files are no longer there, or shpeft is closing.
        """
        with self._lock:
            old = self._works.get(folder.path)
            if old is not None and old.snapshot.active:
                return
            files = tuple(inputs) if inputs is not None else None if old is None else old.inputs
            if self._batches.closed or files is None:
                why = (
                    "shpeft is closing."
                    if self._batches.closed
                    else "This process no longer has its files: choose them again."
                )
                raise RunError(f"The batch {folder.name} cannot be resumed. {why}")
            if inputs is None and old is not None:
                rule = old.rule
            waiting = BatchSnapshot(folder.name, "waiting", "waiting for another batch")
            work = _Work(run, folder, files, waiting, recorder(account, run.name), rule)
            self._works[folder.path] = work
            self._batches.put("batches", lambda: self._carry_out(work))

    def snapshot(self, folder: BatchFolder) -> BatchSnapshot:
        """Return the state of a batch of this process or an earlier one."""
        with self._lock:
            if folder.path in self._works:
                return self._works[folder.path].snapshot
        total, _ = folder.totals()
        done = folder.summary().done
        return BatchSnapshot(folder.name, "finished" if total and done == total else "stopped", "", done, total)

    def stop(self, folder: BatchFolder) -> None:
        """Stop a batch, a running one after the current image; the rows so far stay."""
        with self._lock:
            work = self._works.get(folder.path)
            if work is not None:
                work.stop = True
        if work is not None and work.snapshot.status == "waiting":
            self._end(work, "stopped")

    def discard(self, folder: BatchFolder) -> None:
        """Delete a batch and forget its input files."""
        self.stop(folder)
        with self._lock:
            work = self._works.pop(folder.path, None)
        if work is not None:
            work.ended.wait()
        folder.discard()

    def shutdown(self, patience: float = 30.0) -> None:
        """Stop all batches and wait for them, at most ``patience`` seconds."""
        with self._lock:
            self._batches.close()
            folders = [work.folder for work in self._works.values() if work.snapshot.active]
        for folder in folders:
            self.stop(folder)
        self._batches.join(patience)

    # -- the thread's side

    def _carry_out(self, work: _Work) -> None:
        """Carry out a batch that is still waiting; no exception leaves this function."""
        with self._lock:
            if work.stop or work.snapshot.status != "waiting":
                return
            work.snapshot = replace(work.snapshot, status="running")
        try:
            self._end(work, "finished", result=self._diagnose(work))
        except Cancelled:
            self._end(work, "stopped")
        except ShpeftError as error:
            self._end(work, "failed", message=str(error), files=tuple(notes_of(error)))
        except Exception as error:
            message = f"This is a bug in shpeft ({type(error).__name__})."
            self._end(work, "failed", message=message, files=tuple(traceback_text(error).splitlines()))

    def _diagnose(self, work: _Work) -> BatchResult:
        def progress(stage: str, done: int, total: int) -> None:
            self._report(work, stage, done, total)

        progress("loading the model", 0, 0)
        loaded = load_run(work.run)
        with open_source(work.inputs or (), progress) as source:
            cases = source if work.rule is None else by_series(source, work.rule, progress)
            work.folder.write_total(len(cases.cases), source.others)
            return diagnose_batch(loaded, cases, work.folder.results, progress=progress, record=work.record)

    def _report(self, work: _Work, stage: str, done: int, total: int) -> None:
        with self._lock:
            if work.stop or not threading.main_thread().is_alive():
                raise Cancelled
            eta = work.eta.update(done, total)
            work.snapshot = replace(work.snapshot, stage=stage, done=done, total=total, eta_seconds=eta)

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
            if work.ended.is_set():
                return
            if status == "finished":
                work.inputs = None
            again = work.inputs is not None
            work.snapshot = BatchSnapshot(
                work.folder.name, status, "", done, total, None, message, files, result, again
            )
            work.ended.set()


_worker: BatchWorker | None = None
_making = threading.Lock()


def worker() -> BatchWorker:
    """Return the worker of this process; it stops by itself when the process ends."""
    global _worker
    with _making:
        if _worker is None:
            _worker = BatchWorker()
            stop_at_exit(_worker.shutdown)
        return _worker

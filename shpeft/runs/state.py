"""The state of a run: its status on disk, the transitions between statuses, and the lock of its worker.

queued ──▶ running ──▶ finished | cancelled | failed | interrupted
   └──────────────────▶ cancelled | failed | interrupted ──▶ queued | running
"""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

from shpeft.errors import Cancelled, Interrupted, RunError, ShpeftError
from shpeft.runs.checkpoint import CheckpointFile
from shpeft.runs.run_file import RunFile
from shpeft.support.atomic_files import FileLock, is_locked, write_atomic
from shpeft.support.environment import traceback_text
from shpeft.support.memory import as_out_of_memory

Status = Literal["queued", "running", "finished", "cancelled", "failed", "interrupted"]
NEXT: dict[Status, tuple[Status, ...]] = {
    "queued": ("running", "cancelled", "failed", "interrupted"),
    "running": ("finished", "cancelled", "failed", "interrupted"),
    "interrupted": ("queued", "running"),
    "cancelled": ("queued", "running"),
    "failed": ("queued", "running"),
    "finished": (),
}

EndRequest = Literal["stop", "discard"]
"""``stop`` keeps the best epoch so far as a finished run; ``discard`` moves the run to the trash."""

END_REQUEST = "ending"
"""The file through which any process asks the worker of a run to end it."""


@dataclass(frozen=True)
class RunState:
    """The content of ``state.json``.

    Attributes:
        status: see the diagram above.
        stage: the current stage, as shown to the user.
        done: how much of ``total`` is done, in image passes.
        total: the work of the whole run.
        message: how the run ended, as shown to the user.
        started: seconds since 1970, None before the run was queued.
        updated: seconds since 1970 of the last change.
        pid: the process that works on the run, or worked on it last.
    """

    status: Status
    stage: str = ""
    done: int = 0
    total: int = 0
    message: str = ""
    started: float | None = None
    updated: float = 0.0
    pid: int | None = None

    @property
    def ended(self) -> bool:
        """Whether the state stays as it is until somebody resumes the run."""
        return self.status not in ("queued", "running")

    @property
    def resumable(self) -> bool:
        """Whether the run ended without being finished."""
        return self.ended and self.status != "finished"


_STATE = TypeAdapter(RunState)


class StateFile:
    """``state.json`` and the lock of a run; the worker of a run holds the lock until the run ends."""

    def __init__(self, folder: Path, checkpoint: CheckpointFile) -> None:
        self._folder, self._checkpoint = folder, checkpoint
        self._file = RunFile(folder, "state.json")
        self._lock = FileLock(folder / ".lock")
        self._writing = threading.Lock()
        self._last_progress = 0.0

    def read(self) -> RunState:
        """Return the state; a run whose process has ended without saying so is reported as interrupted.

        Raises:
            RunError: the file is missing or damaged.
        """
        state: RunState = self._file.parse(_STATE.validate_json)
        if not state.ended and not self._lock.held and not is_locked(self._lock.path):
            return replace(state, status="interrupted", message="The process that ran it is gone.")
        return state

    @property
    def status(self) -> Status:
        """The status of ``read()``."""
        return self.read().status

    def write(self, state: RunState) -> None:
        """Write a state without checking the transition; see ``change``."""
        self._file.write(_STATE.dump_json(state, indent=1))

    def change(self, status: Status, **fields: Any) -> RunState:
        """Write a new status and any of ``stage done total message``, and return the new state.

        Raises:
            RunError: the transition is not allowed.
        """
        with self._writing:
            state = self.read()
            if status != state.status and status not in NEXT[state.status]:
                raise RunError(f"The run {self._folder.name} is {state.status} and cannot become {status}.")
            if status in ("queued", "running") and state.status != status:
                fields = {"started": time.time(), "pid": os.getpid(), "message": ""} | fields
                if state.ended:
                    self._clear_end_request()  # it was meant for the work that has ended
            state = replace(state, status=status, updated=time.time(), **fields)
            self.write(state)
            return state

    def record_progress(self, stage: str, done: int, total: int, interval: float = 1.0) -> None:
        """Write progress, at most once every ``interval`` seconds."""
        now = time.monotonic()
        if now - self._last_progress >= interval:
            self._last_progress = now
            self.change("running", stage=stage, done=done, total=total)

    def settle(self) -> RunState:
        """Write to disk that a run was interrupted, if it was; return the state. Read-only folders stay unchanged."""
        state = self.read()
        if state.status == "interrupted":
            with suppress(ShpeftError):
                self.write(state)
        return state

    @contextmanager
    def recording(self) -> Iterator[list[str]]:
        """Mark the run as running, and write how it ended on exit; exceptions propagate.

        Yields:
            a list of sentences for the message of the finished run; append to it.

        Raises:
            RunError: another process works on this run, or it is finished.
        """
        self.lock()
        remarks: list[str] = []
        try:
            self.change("running")
            try:
                yield remarks
            except BaseException as error:
                starved = as_out_of_memory(error)
                with suppress(ShpeftError):
                    self._write_failure(starved or error)
                if starved:
                    raise starved from None
                raise
            self.change("finished", stage="", message=" ".join(remarks))
            self._checkpoint.delete()
            self._clear_end_request()
        finally:
            self.unlock()

    def queue_again(self) -> None:
        """Lock an unfinished run and mark it as queued, so that it can be resumed.

        Raises:
            RunError: it is finished, or another process works on it.
        """
        self.lock()
        try:
            self.change("queued", stage="", done=0, total=0)
        except BaseException:
            self.unlock()
            raise

    # -- ending a run from any process

    @property
    def end_request(self) -> EndRequest | Literal[""]:
        """The request to end the run that its worker has not carried out yet; empty if there is none."""
        try:
            text = (self._folder / END_REQUEST).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return ""
        return "stop" if text == "stop" else "discard" if text == "discard" else ""

    def request_end(self, request: EndRequest) -> None:
        """Ask the worker of the run, in this process or another, to end it; it does so within a training step.

        Raises:
            RunError: nobody works on the run, or ``stop`` was asked before the first epoch is over.
        """
        status, name = self.status, self._folder.name
        if status not in ("queued", "running"):
            raise RunError(f"The run {name} is {status}: nothing is under way that could be stopped.")
        if request == "stop" and not self._checkpoint.exists:
            raise RunError(
                f"No epoch of the run {name} is over yet, so that there is nothing to keep. Wait for the first, "
                "or discard the run (--discard)."
            )
        if self.end_request != "discard":
            write_atomic(self._folder / END_REQUEST, request)

    def _clear_end_request(self) -> None:
        (self._folder / END_REQUEST).unlink(missing_ok=True)

    # -- the worker's lock

    def try_lock(self) -> bool:
        """Take the lock; return whether this object holds it now."""
        return self._lock.acquire()

    def lock(self) -> None:
        """Keep others from working on the run until ``unlock``; without effect while this object holds the lock.

        Raises:
            RunError: another process works on this run.
        """
        if not self.try_lock():
            raise RunError(f"The run {self._folder.name} is being worked on. Wait until it ends, or stop it.")

    def unlock(self) -> None:
        """Release the lock; ``recording`` does so by itself."""
        self._lock.release()

    def _write_failure(self, error: BaseException) -> None:
        """Write the state that an exception leads to; a bug leaves its traceback, without paths of images."""
        if isinstance(error, Interrupted):
            self.change("interrupted", message=str(error) or "The process that ran it was closed.")
        elif isinstance(error, ShpeftError):
            self.change("failed", message=str(error))
        elif isinstance(error, Exception) and not isinstance(error, Cancelled):
            write_atomic(self._folder / "error.log", traceback_text(error))
            message = f"This is a bug in shpeft ({type(error).__name__}); error.log in the run folder has the details."
            self.change("failed", message=message)
        else:
            self.change("cancelled", message="Cancelled before it was finished.")

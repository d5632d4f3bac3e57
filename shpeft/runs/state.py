"""Where a run stands: its state on disk, the moves between states, and the lock that tells a live run from a dead one.

queued ──▶ running ──▶ finished | cancelled | failed | interrupted
   └──────────────────▶ cancelled | failed | interrupted ──▶ queued | running
"""

import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from shpeft.errors import Cancelled, RunError, ShpeftError
from shpeft.files import FileLock, is_locked, write_atomic
from shpeft.runs import formats

Status = Literal["queued", "running", "finished", "cancelled", "failed", "interrupted"]
NEXT: dict[Status, tuple[Status, ...]] = {
    "queued": ("running", "cancelled", "failed", "interrupted"),
    "running": ("finished", "cancelled", "failed", "interrupted"),
    "interrupted": ("queued", "running"),
    "cancelled": ("queued", "running"),
    "failed": ("queued", "running"),
    "finished": (),
}

CHECKPOINT = "checkpoint"
"""A folder of the run's own: where training stands, deleted when the run is finished."""

Ending = Literal["stop", "discard"]
ENDING = "ending"
"""A file by which any process ends the work of another: to ``stop`` with the best epoch, or to ``discard`` the run."""


class Interrupted(Cancelled):
    """The process is ending: nobody gave the run up."""


@dataclass(frozen=True)
class RunState:
    """Where a run stands; times are seconds since 1970."""

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
        """Whether nothing more will happen by itself."""
        return self.status not in ("queued", "running")

    @property
    def resumable(self) -> bool:
        """Whether it ended without being finished, so that it can be taken up again."""
        return self.ended and self.status != "finished"


_STATE = TypeAdapter(RunState)


class StateFolder:
    """A folder with a ``state.json`` and a lock, held by whoever does the work until it has ended."""

    def __init__(self, path: Path) -> None:
        """Wrap a folder that exists; nothing is read or written."""
        self.path = path
        self._lock = FileLock(path / ".lock")
        self._writing = threading.Lock()
        self._noted = 0.0

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.path.name

    @property
    def state(self) -> RunState:
        """What ``state.json`` says; a run that was under way in a process that is gone reads as interrupted."""
        with self._reading("state.json"):
            state: RunState = _STATE.validate_json((self.path / "state.json").read_bytes())
        if state.status in ("queued", "running") and not self._lock.held and not is_locked(self._lock.path):
            return replace(state, status="interrupted", message="The process that ran it is gone.")
        return state

    def set_state(self, status: Status, **changes: Any) -> RunState:
        """Write a new status and any of ``stage done total message``.

        Raises:
            RunError: a run cannot go from its present status to this one.
        """
        with self._writing:
            state = self.state
            if status != state.status and status not in NEXT[state.status]:
                raise RunError(f"The run {self.name} is {state.status} and cannot become {status}.")
            if status in ("queued", "running") and state.status != status:
                changes = {"started": time.time(), "pid": os.getpid(), "message": ""} | changes
                if state.ended:
                    (self.path / ENDING).unlink(missing_ok=True)  # it was asked of the work that has ended
            state = replace(state, status=status, updated=time.time(), **changes)
            self._write_state(state)
            return state

    def note(self, stage: str, done: int, total: int, every: float = 1.0) -> None:
        """Write progress down, at most once in ``every`` seconds."""
        now = time.monotonic()
        if now - self._noted >= every:
            self._noted = now
            self.set_state("running", stage=stage, done=done, total=total)

    @contextmanager
    def recording(self) -> Iterator[list[str]]:
        """Mark the run as running, and at the end write down how it ended; exceptions go on to the caller.

        Yields sentences that a finished run carries; append to them.

        Raises:
            RunError: another process works on this run, or it is finished.
        """
        self.hold()
        remarks: list[str] = []
        try:
            self.set_state("running")
            try:
                yield remarks
            except BaseException as error:
                with suppress(ShpeftError):
                    self._write_end(error)
                raise
            self.set_state("finished", stage="", message=" ".join(remarks))
            shutil.rmtree(self.path / CHECKPOINT, ignore_errors=True)
            (self.path / ENDING).unlink(missing_ok=True)
        finally:
            self.release()

    @property
    def ending(self) -> Ending | Literal[""]:
        """What was asked of the process that works on the run, and is not done yet."""
        try:
            asked = (self.path / ENDING).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return ""
        return "stop" if asked == "stop" else "discard" if asked == "discard" else ""

    def ask(self, ending: Ending) -> None:
        """Ask the process that works on the run, this one or another, to end it; it is heard within a step.

        Raises:
            RunError: nobody works on the run, or there is nothing yet that could be kept.
        """
        status = self.state.status
        if status not in ("queued", "running"):
            raise RunError(f"The run {self.name} is {status}: nothing is under way that could be stopped.")
        if ending == "stop" and not (self.path / CHECKPOINT).is_dir():
            raise RunError(
                f"No epoch of the run {self.name} is over yet, so that there is nothing to keep. Wait for the first, "
                "or discard the run (--discard)."
            )
        if self.ending != "discard":
            write_atomic(self.path / ENDING, ending)

    def hold(self) -> None:
        """Keep others from working on the run until ``release``; without effect when it is held already.

        Raises:
            RunError: another process works on this run.
        """
        if not self._lock.acquire():
            raise RunError(f"The run {self.name} is being worked on. Wait until it ends, or stop it.")

    def move(self, place: Path) -> None:
        """Move the folder, which nobody else may be working on; this object still names the old place.

        Raises:
            RunError: another process works on this run.
            OSError: it cannot be moved there.
        """
        self.hold()
        try:
            if os.name == "nt":  # where a folder with an open file cannot be moved
                self.release()
            os.rename(self.path, place)
        finally:
            self.release()

    def queue_again(self) -> None:
        """Hold an unfinished run and mark it as waiting, so that it can be resumed.

        Raises:
            RunError: it is finished, or being worked on.
        """
        self.hold()
        try:
            self.set_state("queued", stage="", done=0, total=0)
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Stop holding the folder; ``recording`` does it by itself."""
        self._lock.release()

    def settle(self) -> RunState:
        """Write down that a run was interrupted, when it was; a folder that cannot be written stays as it is."""
        state = self.state
        if state.status == "interrupted":
            with suppress(ShpeftError):
                self._write_state(state)
        return state

    def _write_state(self, state: RunState) -> None:
        write_atomic(self.path / "state.json", _STATE.dump_json(state, indent=1))

    def _write_end(self, error: BaseException) -> None:
        """The state that an exception leads to; an unexpected one leaves its traceback, without paths of images."""
        if isinstance(error, Interrupted):
            self.set_state("interrupted", message="The process that ran it was closed.")
        elif isinstance(error, ShpeftError):
            self.set_state("failed", message=str(error))
        elif isinstance(error, Exception) and not isinstance(error, Cancelled):
            write_atomic(self.path / "error.log", formats.traceback_text(error))
            message = f"This is a bug in shpeft ({type(error).__name__}); error.log in the run folder has the details."
            self.set_state("failed", message=message)
        else:
            self.set_state("cancelled", message="Cancelled before it was finished.")

    @contextmanager
    def _reading(self, file: str) -> Iterator[None]:
        """Turn whatever a missing or damaged file raises into a sentence."""
        try:
            yield
        except FileNotFoundError:
            reason = f"has no {file}: it may not have come that far"
        except ValidationError:
            reason = f"is damaged: {file} does not have the expected fields"
        except formats.DAMAGE as error:
            reason = f"is damaged: {file} cannot be read ({error})"
        else:
            return
        raise RunError(f"The run {self.name} {reason}. Choose another run, or run it again.")

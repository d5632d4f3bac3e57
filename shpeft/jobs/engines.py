"""Who carries out a run: this process, a process of its own, or a cluster of computers.

An engine only begins a command and ends it. Progress, epochs, requests to stop and results go through the run's folder.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from shpeft.errors import Cancelled, ConfigError, Interrupted, RunError
from shpeft.runs import RunFolder
from shpeft.support.progress import Progress

if TYPE_CHECKING:
    from shpeft.training.loop import EpochReport

VARIABLE = "SHPEFT_ENGINE"
"""How ``shpeft ui --engine`` tells the app; unset, a thread of the app carries out the runs."""

WORKER = "shpeft.jobs.worker"

INTERVAL = 0.5
"""Seconds between two looks into a run's folder; its worker writes progress once a second."""

UNLOCKING = 30.0
"""Seconds that a killed worker has to end, until its lock is free."""


class Engine(Protocol):
    """Something that carries out commands outside this process.

    Attributes:
        waiting: the stage that is shown while nobody works on a run yet.
        schedules: whether the engine itself decides which run waits; otherwise runs of one device wait for each other.
    """

    waiting: str
    schedules: bool

    def submit(self, command: Sequence[str], device: str) -> Any:
        """Have somebody carry out a command; return a ticket.

        Args:
            command: a module and its arguments, as after ``python -m``; paths are absolute.
            device: the device that the command computes on, as in a configuration.

        Raises:
            ShpeftError: the engine cannot be reached, or its package is not installed.
        """
        ...

    def outcome(self, ticket: Any) -> str | None:
        """Return None while the work is waiting or under way, then how it ended: empty, or the reason of its end."""
        ...

    def kill(self, ticket: Any) -> None:
        """End the work at once; no effect on work that has ended."""
        ...


def engine_named(name: str) -> Engine | None:
    """Return the engine of a name, None for ``thread``.

    Args:
        name: ``thread``, ``process``, ``ray`` for the cluster that this computer is part of, or ``ray://HOST:PORT``.

    Raises:
        ConfigError: there is no such engine.
        MissingExtra: its package is not installed.

    Examples:
        >>> engine_named("thread") is None, engine_named("process").schedules
        (True, False)
    """
    if name == "thread":
        return None
    if name == "process":
        from shpeft.jobs.process_engine import ProcessEngine

        return ProcessEngine()
    if name == "ray" or (name.startswith("ray://") and name != "ray://"):
        from shpeft.jobs.ray_engine import RayEngine

        return RayEngine("auto" if name == "ray" else name)
    raise ConfigError(f"There is no engine {name!r}. The engines are thread, process, ray and ray://HOST:PORT.")


def run_on(
    engine: Engine,
    folder: RunFolder,
    *,
    progress: Progress,
    on_epoch: "Callable[[EpochReport], None] | None",
    stop: Callable[[], bool],
) -> None:
    """Have an engine carry out a run, and report what the run's folder says until it ends.

    Args:
        engine: who does the work.
        folder: of a run that is queued or unfinished.
        progress: the progress callback; raising ``Cancelled`` in it kills the work.
        on_epoch: called with each epoch.
        stop: True ends training after the current step, and the best epoch so far is tested.

    Raises:
        ShpeftError: nobody carries it out, it failed, or its worker is gone; the folder's state says so, too.
        Cancelled: ``progress`` raised it, or another process discarded the run.
    """
    folder.state.unlock()  # the lock belongs to the worker
    try:
        ticket = engine.submit([WORKER, str(folder.path.resolve())], folder.config.device)
    except BaseException as error:
        _record_end(folder, error)
        raise
    seen: list[str] = []
    try:
        while True:
            outcome = engine.outcome(ticket)  # before the folder is read, so that the last look sees all of it
            seen = _report_epochs(folder, seen, on_epoch)
            if outcome is not None:
                break
            state = folder.state.read()
            under_way = state.status == "running"
            progress(state.stage if under_way else engine.waiting, state.done, state.total)
            if stop() and not folder.state.end_request:
                with suppress(RunError):  # before the first epoch is over, there is nothing to keep
                    folder.state.request_end("stop")
            time.sleep(INTERVAL)
    except BaseException as error:
        engine.kill(ticket)
        _record_end(folder, error)
        raise
    _raise_if_unfinished(folder, outcome)


def _report_epochs(folder: RunFolder, seen: list[str], on_epoch: "Callable[[EpochReport], None] | None") -> list[str]:
    """Report the epochs that are new; the training of another budget replaces those before."""
    reports = folder.history.read()
    texts = [repr(report) for report in reports]
    fresh = len(seen) if texts[: len(seen)] == seen else 0
    if on_epoch is not None:
        for report in reports[fresh:]:
            on_epoch(report)
    return texts


def _record_end(folder: RunFolder, error: BaseException) -> None:
    """Record that a run was cancelled or interrupted, once its killed worker has released the lock."""
    deadline = time.monotonic() + UNLOCKING
    while not folder.state.try_lock():
        if time.monotonic() > deadline:  # it still works, and records its own end
            return
    try:
        if not folder.state.read().ended:
            if isinstance(error, Cancelled) and not isinstance(error, Interrupted):
                folder.state.change("cancelled", message="Cancelled before it was finished.")
            else:
                folder.state.change("interrupted", message=str(error) or "The process that watched it was closed.")
    finally:
        folder.state.unlock()


def _raise_if_unfinished(folder: RunFolder, outcome: str) -> None:
    state = folder.state.read()
    if state.status == "finished":
        return
    if state.status == "cancelled":
        raise Cancelled
    if state.status == "failed":
        raise RunError(state.message)
    error = RunError(
        f"The process that carried out the run {folder.name} is gone{f' ({outcome})' if outcome else ''}. "
        + (
            "Resume it: it goes on after its last complete epoch."
            if folder.history.read()
            else "No epoch was over yet."
        )
    )
    _record_end(folder, error)
    raise error

"""Work of a run's model on one image: in a worker thread, with progress on the page, a Stop button and a cache.

Each model has one worker thread, so that no two pages use it at once. A session remembers its latest results by their
keys. Quick work starts by itself; long work waits for a click.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any, TypeVar

import streamlit as st

from app.widgets.session import jobs
from shpeft.errors import Cancelled
from shpeft.explanation.saliency import PassTime, supported_methods
from shpeft.pipeline import LoadedRun, load_run
from shpeft.pipeline.loaded_run import Rules, read_rules
from shpeft.runs import RunFolder, find_run
from shpeft.support.progress import Progress, format_duration

MAX_TASKS = 16
"""Tasks that a session remembers, so that moving a slider does not compute a result again."""

QUICK_SECONDS = 3.0
"""Expected duration up to which work starts without a click."""

GRACE_SECONDS = 0.4
"""How long the page waits for a result before it shows a progress bar."""

ABANDONED_SECONDS = 90.0
"""Work stops if no page asks for it this long. Browsers slow a hidden tab's requests to one a minute."""

Key = tuple[Any, ...]
Result = TypeVar("Result")
Work = Callable[[LoadedRun, Progress], Result]


@dataclass(eq=False)
class Task:
    """Work in the worker thread.

    Attributes:
        future: gives the result or the error.
        progress: the share done and a sentence.
        requested: whether the page has asked for it since the last :func:`cancel_unrequested`.
        stopped: whether the reader pressed Stop.
    """

    future: Future[Any] = field(default_factory=Future)
    progress: tuple[float, str] = (0.0, "Waiting for the model")
    requested: bool = True
    stopped: bool = False
    _cancel: threading.Event = field(default_factory=threading.Event)
    _last_seen: float = field(default_factory=time.monotonic)

    def keep_alive(self) -> None:
        """Note that a page still shows this task."""
        self._last_seen = time.monotonic()

    def stop(self) -> None:
        """Cancel it for the reader, who has to start it again."""
        self.stopped = True
        self.cancel()

    def cancel(self) -> None:
        """Remove it from the queue, or end it at its next progress report."""
        self._cancel.set()
        self.future.cancel()

    def report(self, stage: str, done: int, total: int) -> None:
        """Take a progress report from the worker thread; raise Cancelled if the result is no longer needed."""
        exiting = not threading.main_thread().is_alive()  # the interpreter joins worker threads before it exits
        if exiting or self._cancel.is_set() or time.monotonic() - self._last_seen > ABANDONED_SECONDS:
            raise Cancelled
        self.progress = min(1.0, done / max(1, total)), stage.capitalize()

    @property
    def over(self) -> bool:
        """Whether it has ended, or will at its next progress report."""
        return self.future.done() or self._cancel.is_set()

    @property
    def cancelled(self) -> bool:
        """Whether it ended, or will end, without a result or an error of its own."""
        if self._cancel.is_set() or self.future.cancelled():
            return True
        return self.future.done() and isinstance(self.future.exception(), Cancelled)


@st.cache_resource(show_spinner=False, max_entries=2)
def _model(name: str, trained: float) -> tuple[LoadedRun, ThreadPoolExecutor]:
    """Load a run's model and create the one thread that may use it."""
    with jobs().right_of_way.claimed():
        return load_run(find_run(name)), ThreadPoolExecutor(1, thread_name_prefix=f"shpeft-model-{name}")


@st.cache_resource(show_spinner=False, max_entries=16)
def _rules(name: str, modified: tuple[float, ...]) -> Rules:
    return read_rules(find_run(name))


def _worker(name: str, modified: tuple[float, ...]) -> tuple[LoadedRun, ThreadPoolExecutor]:
    """Return the model with its decision rules as they are now, and its thread."""
    loaded, executor = _model(name, modified[0])
    return loaded.with_rules(_rules(name, modified)), executor


@st.cache_resource(show_spinner=False, max_entries=16)
def _pass_time(name: str, trained: float) -> PassTime:
    loaded, executor = _model(name, trained)
    with jobs().right_of_way.claimed():
        return executor.submit(PassTime.measure, loaded.backbone).result()


def preload(run: RunFolder) -> None:
    """Load and time a run's model before a page needs it; draws nothing."""
    _pass_time(run.name, modified(run)[0])


def _loaded(run: RunFolder) -> tuple[LoadedRun, ThreadPoolExecutor]:
    with st.spinner("Loading the model"):
        return _worker(run.name, modified(run))


def pass_time(run: RunFolder) -> PassTime:
    """Return how fast the run's model is on this computer; measured once."""
    with st.spinner("Timing the model"):
        return _pass_time(run.name, modified(run)[0])


@st.cache_data(show_spinner=False, max_entries=16)
def _saliency_methods(name: str, modified: tuple[float, ...]) -> tuple[str, ...]:
    return supported_methods(_worker(name, modified)[0].backbone)


def saliency_methods(run: RunFolder) -> tuple[str, ...]:
    """Return the saliency methods that the run's model supports, the default one first."""
    return _saliency_methods(run.name, modified(run))


def modified(run: RunFolder) -> tuple[float, ...]:
    """Return when the model, first, and its decision rules were saved: results of older ones are not used."""
    files = (run.delta_path, run.path / "trust.json", run.path / "novelty.safetensors")
    return tuple(file.stat().st_mtime for file in files if file.exists())


def wait_for_result(run: RunFolder, key: Key, work: Work[Result]) -> Result:
    """Return the result of quick work that the rest of the page needs; wait for it with a progress bar.

    Args:
        key: what the result depends on besides the run.
        work: called in the worker thread with the run's model and a progress callback.
    """
    task = _task(run, key)
    if task is None or task.cancelled:
        task = _submit(run, key, work)
    bar = st.empty()
    try:
        while not wait([task.future], GRACE_SECONDS).done:
            task.keep_alive()
            bar.progress(*task.progress)  # Streamlit interrupts the loop here if the reader clicks elsewhere
    finally:
        if not task.future.done():
            task.cancel()
        bar.empty()
    result: Result = task.future.result()
    return result


def result_or_progress(
    run: RunFolder, key: Key, work: Work[Result], label: str, seconds: float, *, unasked: float = QUICK_SECONDS
) -> Result | None:
    """Return the result of work, or draw its progress or the button that starts it and return None.

    Args:
        key: what the result depends on besides the run.
        work: called in the worker thread with the run's model and a progress callback.
        label: of the button that starts long work.
        seconds: the expected duration.
        unasked: the expected duration up to which the work starts without a click.

    Raises:
        ShpeftError: raised by the work.
    """

    def submit() -> None:
        _submit(run, key, work)

    task = _task(run, key)
    if task is None or (task.cancelled and not task.stopped):
        task = _submit(run, key, work) if seconds <= unasked else None
        if task is not None and seconds <= GRACE_SECONDS:  # else the rest of the page need not wait
            wait([task.future], GRACE_SECONDS)
    if task is not None and not task.stopped and task.future.done():
        result: Result = task.future.result()
        return result
    with st.container():  # one element in every case, so that the elements below keep their positions
        if task is not None and not task.stopped:
            _follow(task)
        else:
            full_key = (run.name, modified(run), *key)
            st.button(f"{label} (about {format_duration(seconds)})", key=f"start-{full_key}", on_click=submit)
    return None


@st.fragment(run_every=0.25)
def _follow(task: Task) -> None:
    """Draw the progress and a Stop button; rerun the page when the work is over."""
    if task.over:
        st.rerun()
    task.keep_alive()
    st.progress(*task.progress)
    # a callback, because it also runs if a redraw of the page comes before this line
    st.button("Stop", key=f"stop-{id(task)}", on_click=task.stop, icon=":material/stop:")


def latest_result(run: RunFolder, *parts: object) -> Any:
    """Return the session's latest result of the run's current model whose key contains these parts, or None."""
    model = (run.name, modified(run))
    tasks = [task for key, task in _tasks().items() if key[:2] == model and set(parts) <= set(key[2:])]
    done = (task.future for task in reversed(tasks) if task.future.done() and not task.cancelled)
    return next((future.result() for future in done if future.exception() is None), None)


def cancel_others(run: RunFolder, part: object) -> None:
    """Cancel the session's work whose key does not contain this part: the model's one thread is then free sooner."""
    model = (run.name, modified(run))
    for key, task in list(_tasks().items()):
        if not task.over and not (key[:2] == model and part in key[2:]):
            task.cancel()
            del _tasks()[key]


def cancel_unrequested() -> None:
    """Cancel the session's work that the page did not ask for in this run of its script."""
    for key, task in list(_tasks().items()):
        if not task.requested and not task.over:
            task.cancel()
            del _tasks()[key]
        task.requested = False


def forget() -> None:
    """Cancel and drop all work of this session."""
    for task in _tasks().values():
        task.cancel()
    _tasks().clear()


def _tasks() -> dict[Key, Task]:
    """Return the session's tasks, the latest last."""
    tasks: dict[Key, Task] = st.session_state.setdefault("model_tasks", {})
    return tasks


def _task(run: RunFolder, key: Key) -> Task | None:
    task = _tasks().get((run.name, modified(run), *key))
    if task is not None:
        task.requested = True
        task.keep_alive()
    return task


def _submit(run: RunFolder, key: Key, work: Work[Any]) -> Task:
    """Queue work for the run's model; drop the session's oldest tasks."""
    loaded, executor = _loaded(run)
    task, tasks = Task(), _tasks()

    def execute() -> Any:
        task.report("waiting for the model", 0, 1)  # may have been abandoned in the queue
        with jobs().right_of_way.claimed():
            return work(loaded, task.report)

    task.future = executor.submit(execute)
    full_key = (run.name, modified(run), *key)
    tasks.pop(full_key, None)
    tasks[full_key] = task
    for old in list(tasks)[:-MAX_TASKS]:
        tasks.pop(old).cancel()
    return task

"""A run's model at work for one image: quick work at once, long work when it is asked for, and stopped when wanted."""

import threading
from collections.abc import Callable
from typing import Any

import streamlit as st

from shpeft.pipeline import LoadedRun, load_run
from shpeft.progress import Progress, about
from shpeft.runs import RunFolder, find_run
from shpeft.saliency import Pace

REMEMBERED = 16
"""Results that a session keeps, so that moving a slider does not compute one again."""

INSTANT = 3.0
"""Seconds of work up to which it is done without being asked for."""

PATIENCE = 0.2
"""Seconds between two looks at whether the model is free or the work is no longer wanted."""

Key = tuple[Any, ...]
Work = Callable[[LoadedRun, Progress], Any]


@st.cache_resource(show_spinner="Loading the model", max_entries=2)
def _model(name: str, written: tuple[float, ...]) -> tuple[LoadedRun, threading.Lock]:
    """A run's model, with the lock that keeps two browsers from using it at once."""
    return load_run(find_run(name)), threading.Lock()


@st.cache_resource(show_spinner="Timing the model", max_entries=16)
def _pace(name: str, written: tuple[float, ...]) -> Pace:
    loaded, lock = _model(name, written)
    with lock:
        return Pace.measure(loaded.backbone)


def pace(run: RunFolder) -> Pace:
    """How fast the run's model is on this computer; measured once."""
    return _pace(run.name, _written(run))


def _written(run: RunFolder) -> tuple[float, ...]:
    """When the model and what it is judged by were written: what is remembered of older ones is of no use."""
    files = (run.delta_path, run.path / "trust.json", run.path / "novelty.safetensors")
    return tuple(file.stat().st_mtime for file in files if file.exists())


def forget() -> None:
    """Drop every result of this session."""
    for name in ("remembered", "decided"):
        st.session_state.pop(name, None)


def at_once(run: RunFolder, key: Key, work: Work) -> Any:
    """What the work gives: what the page cannot do without."""
    key = (run.name, _written(run), *key)
    kept = _kept()
    if key not in kept:
        place = st.empty()
        try:
            _remember(key, _held(run, work, place.progress(0.0, "Waiting for the model")))
        finally:
            place.empty()
    return kept[key]


def done(run: RunFolder, key: Key, work: Work, title: str, seconds: float) -> Any:
    """What the work gives, or None while it is under way, waits to be asked for, or was stopped.

    Work is carried out by :func:`finish`, when the page is drawn to its end, and the page is drawn again with it.

    Args:
        key: what the result depends on besides the run; the session remembers results by it.
        work: called with the run's model, which no one else uses meanwhile, and a progress.
        title: what the button says that starts the work, where it takes long.
        seconds: how long it is expected to take.
    """
    key = (run.name, _written(run), *key)
    found = _kept().get(key)
    if isinstance(found, Exception):
        raise found
    if found is not None:
        return found
    decided = st.session_state.setdefault("decided", {})
    with st.container():  # one element either way, so that what follows keeps its place
        if decided.get(key, seconds <= INSTANT):
            bar = st.progress(0.0, "Waiting for the model")
            st.button("Stop", key=f"stop-{key}", on_click=decided.update, args=({key: False},), icon=":material/stop:")
            st.session_state.setdefault("pending", []).append((run, key, work, bar))
        else:
            words = f"{title} (about {about(seconds)})"
            st.button(words, key=f"start-{key}", on_click=decided.update, args=({key: True},))
    return None


def latest(run: RunFolder, *parts: object) -> Any:
    """The last result of the run's present model whose key has these parts; None where none is remembered."""
    model = (run.name, _written(run))
    found = [kept for key, kept in _kept().items() if key[:2] == model and set(parts) <= set(key[2:])]
    return next((kept for kept in reversed(found) if not isinstance(kept, Exception)), None)


def begin() -> None:
    """At the top of the page: nothing is left over from a drawing of the page that was cut short."""
    st.session_state["pending"] = []


def finish() -> None:
    """At the end of the page: do the work that it waits for, and draw it again."""
    pending = st.session_state.pop("pending", [])
    for run, key, work, bar in pending:
        try:
            _remember(key, _held(run, work, bar))
        except Exception as error:  # shown where the result would stand
            _remember(key, error)
    if pending:
        st.rerun()


def _kept() -> dict[Key, Any]:
    return st.session_state.setdefault("remembered", {})


def _remember(key: Key, result: Any) -> None:
    kept = _kept()
    kept[key] = result
    for old in list(kept)[:-REMEMBERED]:
        del kept[old]


def _held(run: RunFolder, work: Work, bar: Any) -> Any:
    """Do the work once the model is free. A click elsewhere ends it, at the next sign of progress."""
    loaded, lock = _model(run.name, _written(run))
    while not lock.acquire(timeout=PATIENCE):
        bar.progress(0.0, "Waiting for the model")

    def progress(stage: str, done: int, total: int) -> None:
        bar.progress(min(1.0, done / max(1, total)), stage.capitalize())

    try:
        return work(loaded, progress)
    finally:
        lock.release()

"""What a browser session remembers from page to page: the selected run. Also the job manager and the libraries.

Widgets keep their own values (``persist_state="session"``). The selected run is not a widget's value bound to the
address: the Train and Runs pages have no widget for it, and Streamlit would silently drop the name of a deleted run,
where the pages say what became of it.
"""

import threading
from collections.abc import Sequence

import streamlit as st

from app.widgets.layout import run_title
from shpeft.errors import RunError
from shpeft.jobs import JobManager, manager
from shpeft.runs import RunFolder, example_run, find_run, list_runs, runs_root
from shpeft.runs.uploads import delete_unused_uploads
from shpeft.support.markdown import plain


@st.cache_resource(show_spinner=False)
def libraries() -> threading.Event:
    """Import in a thread what takes seconds, once; return the event that tells when that is over."""
    imported = threading.Event()

    def load() -> None:
        try:
            import shpeft.explanation.saliency
            import shpeft.pipeline  # noqa: F401
        finally:  # a page that imports them again shows what is wrong
            imported.set()
        delete_unused_uploads(runs_root())

    threading.Thread(target=load, name="shpeft-libraries", daemon=True).start()
    return imported


def load_libraries() -> None:
    """Wait until the libraries are imported; only the first pages after a start wait."""
    if not libraries().is_set():
        with st.spinner("Loading PyTorch. This takes a few seconds after each start."):
            libraries().wait()


def jobs() -> JobManager:
    """Return the manager of background runs, one for all pages and browsers."""
    return manager()


def selected_run() -> str | None:
    """Return the name of the selected run: from the address, else from the session."""
    name: str | None = st.query_params.get("run") or st.session_state.get("run")
    return name


def select_run(name: str | None) -> None:
    """Select a run, or none, for this page and the next ones; the address names it."""
    st.session_state["run"] = name
    if name is None:
        st.query_params.pop("run", None)
    elif st.query_params.get("run") != name:
        st.query_params["run"] = name


def choose_run(runs: Sequence[RunFolder], *, if_none: str, if_unsuitable: str) -> RunFolder:
    """Draw the list of runs and return the selected one; the page ends here if there is none.

    Args:
        runs: the runs that this page can show.
        if_none: shown if there is no such run.
        if_unsuitable: shown, after its name and status, if the selected run is not among ``runs``.
    """
    if not runs:
        st.info(if_none)
        st.page_link("views/train/page.py", label="Train a model", icon=":material/arrow_forward:")
        st.stop()
    by_name = {run.name: run for run in runs}
    selected = selected_run() or next(iter(by_name))
    st.session_state["picked"] = selected if selected in by_name else None
    st.selectbox(
        "Run",
        list(by_name),
        key="picked",
        format_func=lambda name: run_title(by_name[name]),
        placeholder="Choose a run",
        on_change=lambda: select_run(st.session_state["picked"]),
    )
    select_run(selected)
    if selected not in by_name:
        st.info(_unsuitable(selected, if_unsuitable))
        st.stop()
    return by_name[selected]


def choose_finished_run() -> RunFolder:
    """Draw the list of finished runs and return the selected one; the page ends here if there is none."""
    return choose_run(
        runs_with("delta.safetensors"),
        if_none="Finish a run first; this page needs a trained model.",
        if_unsuitable="This page needs a finished run. Choose another one.",
    )


STATUS_PHRASES = {
    "queued": "is waiting",
    "running": "is still running",
    "finished": "is finished",
    "cancelled": "was stopped",
    "failed": "has failed",
    "interrupted": "was interrupted",
}
"""What a run is or was, after its name."""


def _unsuitable(name: str, sentence: str) -> str:
    """Say why the page cannot show a run: ``sentence``, or that it does not exist."""
    try:
        return f"The run {plain(name)} {STATUS_PHRASES[find_run(name).state.status]}. {plain(sentence)}"
    except RunError as error:
        return f"{plain(error)} Choose one above."


def runs_with(*files: str) -> list[RunFolder]:
    """Return the runs that have all of these files, newest first; last the example that ships with shpeft."""
    runs = [*list_runs(), *filter(None, [example_run()])]
    return [run for run in runs if all((run.path / file).exists() for file in files)]

"""Diagnosing a list in the background: progress, results, earlier lists.

File names are shown only in the browser session that supplied the files.
"""

from dataclasses import replace
from typing import Literal

import streamlit as st

from app.views.diagnose import model_tasks
from app.views.diagnose.images import Images, Worklist, forget
from app.widgets import account, layout
from shpeft import NOTICE
from shpeft.batch import BatchFolder, BatchSnapshot, list_batches, names_csv, worker
from shpeft.config.schema import SeriesRule
from shpeft.errors import DiagnosisError, ShpeftError
from shpeft.runs import RunFolder
from shpeft.support.markdown import plain
from shpeft.support.progress import format_duration

UNASKED = 200
"""Images up to which a list is diagnosed without a click."""

MAX_ROWS = 500
"""Rows that the page shows; the CSV has all of them."""

Color = Literal["blue", "green", "orange", "red", "gray"]

STATUS: dict[str, tuple[str, Color]] = {
    "waiting": ("Waiting", "gray"),
    "running": ("Running", "blue"),
    "finished": ("Finished", "green"),
    "stopped": ("Stopped", "orange"),
    "failed": ("Failed", "red"),
}


def text(run: RunFolder, worklist: Worklist) -> str | None:
    """Draw the progress of diagnosing all images, or the button that starts it; return the CSV so far."""
    folder = _folder_of(run, worklist)
    if folder is None:
        if worklist.files > UNASKED and not st.button(
            f"Diagnose all {worklist.files:,} images", type="primary", icon=":material/play_arrow:"
        ):
            return None
        folder = worker().submit(run, worklist.images, account.current(), worklist.rule)
        _own_batches()[_key(run, worklist)] = folder
    with layout.error_boundary():
        status = worker().snapshot(folder).status
        if status in ("waiting", "running"):
            _follow(folder)
        elif status != "finished":
            _result(run, folder, worklist)
    return folder.text() if folder.path.exists() else None


def details(run: RunFolder, worklist: Worklist) -> None:
    """Draw the counts and files of a list that is finished, behind a click."""
    folder = _folder_of(run, worklist)
    if folder is not None and worker().snapshot(folder).status == "finished":
        with st.expander("Counts and files of this list"), layout.error_boundary():
            _result(run, folder, worklist)


def latest(run: RunFolder, worklist: Worklist) -> str | None:
    """Return the CSV of the list so far, if there is one, without drawing anything."""
    if worklist.samples is not None:
        done: str | None = model_tasks.latest_result(run, "samples", worklist.samples.fingerprint)
        return done
    folder = _folder_of(run, worklist)
    return None if folder is None else folder.text()


def earlier(run: RunFolder) -> None:
    """Draw this account's earlier lists with this model: without images and file names, which are not stored."""
    batches = [folder for folder in list_batches(run) if account.sees_list(folder.path)]
    if not batches:
        return
    with st.expander(f"Earlier lists ({len(batches):,})"):
        st.caption(f"**{NOTICE}** Every row of the CSV repeats this.")
        for folder in batches:
            with st.container(border=True), layout.error_boundary():
                if worker().snapshot(folder).active:
                    _follow(folder)
                else:
                    _result(run, folder, None)


def _key(run: RunFolder, worklist: Worklist) -> tuple[str, tuple[float, ...], str]:
    """Return what a list depends on: the model with its rules, and the images."""
    return run.name, model_tasks.modified(run), worklist.identity


def _own_batches() -> dict[tuple[str, tuple[float, ...], str], BatchFolder]:
    """Return the lists whose files this browser session supplied."""
    own: dict[tuple[str, tuple[float, ...], str], BatchFolder] = st.session_state.setdefault("own_batches", {})
    return own


def _folder_of(run: RunFolder, worklist: Worklist) -> BatchFolder | None:
    folder = _own_batches().get(_key(run, worklist))
    return folder if folder is not None and folder.path.exists() else None


def _heading(folder: BatchFolder, snapshot: BatchSnapshot) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        st.header(plain(folder.name), anchor=False, width="content")
        label, color = STATUS[snapshot.status]
        st.badge(label, color=color)


@st.fragment(run_every=1)
def _follow(folder: BatchFolder) -> None:
    """Show the progress every second; rerun the page when the batch ends."""
    snapshot = worker().snapshot(folder)
    if not snapshot.active:
        st.rerun()
    _heading(folder, snapshot)
    stage = snapshot.stage.capitalize() or "Starting"
    count = f": {snapshot.done:,} of {snapshot.total:,}" if snapshot.total else ""
    time_left = "" if snapshot.eta_seconds is None else f", about {format_duration(snapshot.eta_seconds)} left"
    st.progress(snapshot.fraction, f"{plain(stage)}{count}{time_left}")

    def stop() -> None:  # a callback, because it also runs if a redraw of the page comes before the button
        account.check(folder.path, f"The list {folder.name}")
        st.session_state["stopped"] = folder.name
        worker().stop(folder)

    stopping = st.session_state.get("stopped") == folder.name
    label = "Stopping …" if stopping else "Stop"
    if account.may(folder.path):
        st.button(label, key=f"stop-{folder.name}", on_click=stop, disabled=stopping, icon=":material/stop:")


def _result(run: RunFolder, folder: BatchFolder, worklist: Worklist | None) -> None:
    """Draw the result of a batch that is not running, with its downloads and buttons."""
    images = None if worklist is None else worklist.images
    snapshot, (total, others) = worker().snapshot(folder), folder.totals()
    if folder not in _own_batches().values():
        snapshot = replace(snapshot, files=(), result=None)
    if st.session_state.get("stopped") == folder.name:
        del st.session_state["stopped"]
    _heading(folder, snapshot)
    if snapshot.message:
        layout.show_error(_failure(snapshot))
    counts = folder.summary()
    if counts.done:
        answers = ", ".join(f"**{count:,}** {plain(name)}" for name, count in counts.answers.items())
        band = "" if counts.of_numbers else f"**{counts.abstained:,}** are inside the abstain band; "
        others_are = "file is not an image" if others == 1 else "files are not images"
        unit = "cases" if counts.of_series else "files"
        st.markdown(
            f"{counts.done:,} of {total:,} {unit}. Answers: {answers or 'none'}. {band}"
            f"**{counts.unlike_training:,}** are unlike the training images. "
            f"**{counts.unreadable:,}** cannot be read; {others:,} other {others_are}."
            + (f" Text or markers are visible in **{counts.marked:,}**." if counts.marked else ""),
            help="Both get no answer. The Evaluate page sets the abstain band, and shows how often each happens.",
        )
    if snapshot.status != "finished" and total:
        st.caption(
            f"{counts.done:,} of {total:,} rows are done and saved."
            + ("" if snapshot.again or images else " To resume, choose the same zip or folder again above.")
        )
    _buttons(run, folder, snapshot, worklist)
    _tables(folder, snapshot)


def _failure(snapshot: BatchSnapshot) -> ShpeftError:
    error = DiagnosisError(snapshot.message)
    for line in snapshot.files:
        error.add_note(line)
    return error


def _buttons(run: RunFolder, folder: BatchFolder, snapshot: BatchSnapshot, worklist: Worklist | None) -> None:
    images = None if worklist is None else worklist.images
    with st.container(horizontal=True):
        own = account.may(folder.path)
        if own and snapshot.status != "finished" and not (snapshot.message and not folder.totals()[0]):
            inputs = None if snapshot.again else images
            ready = snapshot.again or images is not None
            if st.button("Resume", key=f"resume-{folder.name}", disabled=not ready, icon=":material/play_arrow:"):
                _resume(run, folder, inputs, None if worklist is None else worklist.rule)
        st.download_button(
            "Results (CSV)",
            folder.text(),
            f"batch_{folder.name}.csv",
            "text/csv",
            key=f"csv-{folder.name}",
            on_click="ignore",
            icon=":material/download:",
        )
        if snapshot.result is not None:
            st.download_button(
                "File names by id (CSV)",
                names_csv(snapshot.result),
                f"names_{folder.name}.csv",
                "text/csv",
                key=f"names-{folder.name}",
                on_click="ignore",
                icon=":material/key:",
                help="Links ids to file names, and so perhaps to patients. It is not saved here: after the app is "
                "closed, only the files themselves can be matched, by their content.",
            )
        if not own:
            return
        with st.popover("Delete", icon=":material/delete:"):
            st.write("This deletes the results for good. The images stay.")
            if st.button("Delete results", key=f"delete-{folder.name}"):
                account.check(folder.path, f"The list {folder.name}")
                worker().discard(folder)
                if worklist is not None:
                    forget()  # else the list would be made again
                st.rerun()


def _resume(run: RunFolder, folder: BatchFolder, images: Images | None, rule: SeriesRule | None) -> None:
    account.check(folder.path, f"The list {folder.name}")
    worker().resume(run, folder, images, account.current(), rule)
    st.rerun()


def _tables(folder: BatchFolder, snapshot: BatchSnapshot) -> None:
    if snapshot.result is not None and snapshot.result.unreadable:
        with st.expander(f"Unreadable files ({len(snapshot.result.unreadable):,})"):
            st.code("\n".join(f"{name}: {reason}" for name, reason in snapshot.result.unreadable), language=None)
    if rows := folder.excerpt(MAX_ROWS):
        with st.expander(f"First {MAX_ROWS} rows" if len(rows) == MAX_ROWS else "All rows"):
            st.dataframe(rows, hide_index=True)

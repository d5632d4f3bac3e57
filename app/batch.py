"""The parts of the Batch page. Names of files are shown to nobody but the browser session that gave them."""

from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from zipfile import is_zipfile

import shared
import streamlit as st

from shpeft import NOTICE
from shpeft.batch import BatchFolder, BatchSnapshot, list_batches, names_csv, worker
from shpeft.errors import DiagnosisError, ShpeftError
from shpeft.progress import about
from shpeft.runs import RunFolder

ZIP, FOLDER = "Upload a zip", "A folder or zip on this computer"
NAMING = "Compares the files that are given above with the rows, by their content. No image is diagnosed again."
ROWS = 500
"""Rows that the page shows; the CSV has all of them."""

STATUS = {
    "waiting": ("Waiting", "gray"),
    "running": ("Running", "blue"),
    "finished": ("Finished", "green"),
    "stopped": ("Stopped", "orange"),
    "failed": ("Failed", "red"),
}
Places = Sequence[str | Path | bytes]


def choose(run: RunFolder) -> Places | None:
    """Let images be given, and a batch of them be started; None while there are none."""
    origin = st.segmented_control(
        "Images", [ZIP, FOLDER], default=ZIP, required=True, key="set_batch_origin", label_visibility="collapsed"
    )
    places = _uploaded() if origin == ZIP else _placed()
    if st.button("Diagnose all", type="primary", disabled=places is None, icon=":material/play_arrow:"):
        with shared.boundary():
            _mine().add(worker().start(run, places or ()).path)
    return places


def _mine() -> set[Path]:
    """The batches whose files this browser session has given."""
    found: set[Path] = st.session_state.setdefault("given", set())
    return found


def _uploaded() -> Places | None:
    """The zip. The widget is emptied at once: it would show the file's name for as long as it holds it."""
    number = st.session_state.setdefault("zips", 0)
    file = st.file_uploader(
        "A zip of images",
        "zip",
        key=f"zip-{number}",
        help="PNG, JPEG, TIFF, BMP, GIF, WebP, PPM, JPEG 2000 or DICOM files, in folders or not. It stays in memory, "
        "and nothing of it is unpacked to the disk: one file after the other is read from it. A zip with archives, "
        "links or encrypted files is not read.",
    )
    if file is not None:
        st.session_state["zips"] = number + 1
        st.session_state["zip"] = file.getvalue()
        st.rerun()
    data = st.session_state.get("zip")
    if data is None:
        st.caption(
            f"Up to {st.get_option('server.maxUploadSize')} MB, held in memory until it is removed or this tab "
            f"is closed. What is larger is read where it is: choose *{FOLDER}*."
        )
        return None
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(f"A zip of {len(data) / 2**20:,.1f} MiB is given.")
        if st.button("Remove the zip", icon=":material/close:"):
            del st.session_state["zip"]
            st.rerun()
    if not is_zipfile(BytesIO(data)):
        shared.complain(DiagnosisError("What was uploaded is no zip, or a damaged one. Remove it and make it again."))
        return None
    return [data]


def _placed() -> Places | None:
    typed = st.text_input(
        "Folder or zip", help="Its path on this computer. It is read where it is; the path is not kept.", key="place"
    ).strip()
    if not typed:
        return None
    place = Path(typed).expanduser()
    if not place.exists():
        shared.complain(DiagnosisError("There is no such folder or file on this computer. Check the path."))
        return None
    return [place]


def all_of(run: RunFolder, places: Places | None) -> None:
    """Every batch of the run, the newest first; ``places`` are what is given on the page."""
    batches = list_batches(run)
    if not batches:
        st.caption("No batch has been started with this run's model.")
        return
    st.caption(f"**{NOTICE}** Every row of a CSV says so, too.")
    for folder in batches:
        with st.container(border=True), shared.boundary():
            if worker().snapshot(folder).active:
                _follow(folder)
            else:
                _ended(run, folder, places)


def _heading(folder: BatchFolder, snapshot: BatchSnapshot) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        st.header(folder.name, anchor=False, width="content")
        words, color = STATUS[snapshot.status]
        st.badge(words, color=color)


@st.fragment(run_every=1)
def _follow(folder: BatchFolder) -> None:
    """Drawn anew every second while the batch is under way, and the whole page at its end."""
    snapshot = worker().snapshot(folder)
    if not snapshot.active:
        st.rerun()
    _heading(folder, snapshot)
    stage = snapshot.stage.capitalize() or "Starting"
    counted = f": {snapshot.done:,} of {snapshot.total:,}" if snapshot.total else ""
    left = "" if snapshot.eta_seconds is None else f", about {about(snapshot.eta_seconds)} left"
    st.progress(snapshot.fraction, f"{stage}{counted}{left}")

    def stop() -> None:  # as a callback, which also runs where the page is drawn anew before it comes to the button
        st.session_state["stopped"] = folder.name
        worker().stop(folder)

    asked = st.session_state.get("stopped") == folder.name
    words = "Stopping …" if asked else "Stop"
    st.button(words, key=f"stop-{folder.name}", on_click=stop, disabled=asked, icon=":material/stop:")


def _ended(run: RunFolder, folder: BatchFolder, places: Places | None) -> None:
    """What a batch has found, and the ways to go on from there."""
    snapshot, (total, others) = worker().snapshot(folder), folder.totals()
    if folder.path not in _mine():
        snapshot = replace(snapshot, files=(), result=None)
    if st.session_state.get("stopped") == folder.name:
        del st.session_state["stopped"]
    _heading(folder, snapshot)
    if snapshot.message:
        shared.complain(_failure(snapshot))
    counts = folder.summary()
    if counts.done:
        found = ", ".join(f"**{count:,}** {name}" for name, count in counts.predicted.items())
        rest = "is no image" if others == 1 else "are no images"
        st.markdown(
            f"{counts.done:,} of {total:,} files. Most probable: {found or 'nothing'}. The model abstains on "
            f"**{counts.abstained:,}**, and **{counts.unlike_training:,}** look unlike the training images. "
            f"**{counts.unreadable:,}** cannot be read; {others:,} more {rest}.",
            help="The model abstains where its probabilities lie in the band that was chosen on the page *Evaluate*. "
            "An image looks unlike the training images where the backbone sees in it what it saw in hardly any of "
            "them: then no probability means much.",
        )
    if snapshot.status != "finished" and total:
        st.caption(
            f"{counts.done:,} of {total:,} rows are there and stay as they are."
            + ("" if snapshot.again or places else " To go on, give the same zip or folder above again.")
        )
    _ways_on(run, folder, snapshot, places)
    _lists(folder, snapshot)


def _failure(snapshot: BatchSnapshot) -> ShpeftError:
    error = DiagnosisError(snapshot.message)
    for line in snapshot.files:
        error.add_note(line)
    return error


def _ways_on(run: RunFolder, folder: BatchFolder, snapshot: BatchSnapshot, places: Places | None) -> None:
    with st.container(horizontal=True):
        if snapshot.status != "finished" and not (snapshot.message and not folder.totals()[0]):
            again = None if snapshot.again else places
            ready = snapshot.again or places is not None
            if st.button("Go on", key=f"again-{folder.name}", disabled=not ready, icon=":material/play_arrow:"):
                _go_on(run, folder, again)
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
                "Which id is which file (CSV)",
                names_csv(snapshot.result),
                f"names_{folder.name}.csv",
                "text/csv",
                key=f"names-{folder.name}",
                on_click="ignore",
                icon=":material/key:",
                help="It leads from the ids back to the files' names, and so perhaps to patients. It is not kept here: "
                "once the app is closed, only the files themselves tell which is which, by their content.",
            )
        elif (
            places is not None
            and snapshot.status == "finished"
            and st.button("Find out which id is which file", key=f"name-{folder.name}", help=NAMING)
        ):
            _go_on(run, folder, places)
        with st.popover("Delete", icon=":material/delete:"):
            st.write("The results are deleted for good. The images are not touched.")
            if st.button("Delete the results", key=f"delete-{folder.name}"):
                worker().discard(folder)
                st.rerun()


def _go_on(run: RunFolder, folder: BatchFolder, places: Places | None) -> None:
    worker().go_on(run, folder, places)
    if places is not None:
        _mine().add(folder.path)
    st.rerun()


def _lists(folder: BatchFolder, snapshot: BatchSnapshot) -> None:
    if snapshot.result is not None and snapshot.result.unreadable:
        with st.expander(f"The {len(snapshot.result.unreadable):,} files that cannot be read"):
            st.code("\n".join(f"{name}: {reason}" for name, reason in snapshot.result.unreadable), language=None)
    if rows := folder.excerpt(ROWS):
        with st.expander(f"The rows{f', the first {ROWS}' * (len(rows) == ROWS)}"):
            st.dataframe(rows, hide_index=True)

"""What is done with runs as such: names, notes, files, the trash, and how runs differ."""

from collections.abc import Callable, Sequence
from datetime import datetime

import shared
import streamlit as st

from shpeft.config import differences
from shpeft.errors import ShpeftError
from shpeft.flags import command
from shpeft.pipeline import paired_difference
from shpeft.runs import (
    Deleted,
    RunFolder,
    delete_run,
    deleted_runs,
    empty_trash,
    export_bytes,
    find_run,
    import_run,
    rename_run,
    restore_run,
)
from shpeft.runs.card import METRICS, interval
from shpeft.runs.trash import DAYS

NOTES = 10_000
"""Characters that notes may have."""


# -- files


def files(run: RunFolder) -> None:
    """The run's files for other programs and other computers."""
    with st.container(horizontal=True):
        if run.state.status == "finished":
            st.download_button(
                "Delta file",
                run.delta_path.read_bytes(),
                f"{run.name}.safetensors",
                on_click="ignore",
                icon=":material/download:",
                help="The trained weights and the classifier, in kilobytes: all that is needed beside the backbone.",
            )
            st.download_button(
                "Whole run",
                lambda: export_bytes(run),
                f"{run.name}.zip",
                "application/zip",
                on_click="ignore",
                icon=":material/download:",
                help="Everything but the notes as one file, for *Import a run* on another computer. It holds no image, "
                "no name of an image, and no place on this computer.",
            )
        st.download_button(
            "Configuration",
            run.config.to_yaml(),
            f"{run.name}.yaml",
            "application/yaml",
            on_click="ignore",
            icon=":material/download:",
            help="`shpeft finetune --config FILE` does the same run again.",
        )


def configuration(run: RunFolder) -> None:
    """The run's saved configuration as YAML and as a command; places on this computer only when asked for."""
    with st.expander("Configuration"):
        config = run.config.portable()
        if config != run.config and st.toggle(
            "Show where files are on this computer",
            key=f"places-{run.name}",
            help="Needed to do the run again with the command below; better left off in a screenshot.",
        ):
            config = run.config
        st.code(config.to_yaml(), language="yaml")
        st.caption("The same as a command; settings that are the defaults are left out.")
        st.code(command(config), language="bash", wrap_lines=True)


def importer() -> None:
    """Take in a run that was exported elsewhere."""
    with st.popover("Import a run", icon=":material/upload:"):
        file = st.file_uploader("A file that was exported as *Whole run*", type="zip", key="import")
        if file is not None and st.session_state.get("imported") != file.file_id:
            with shared.boundary():
                run = import_run(file.getvalue())
                st.session_state["imported"] = file.file_id
                shared.look_at(run.name)
        if file is not None and st.session_state.get("imported") == file.file_id:
            st.success(f"It is here as {shared.current_run()}.")


# -- names and notes


def manage(run: RunFolder) -> None:
    """Name, notes, and the way into the trash."""
    if not run.state.ended:
        st.caption("The run can be renamed and deleted once it has ended.")
        return
    with st.expander("Name, notes, delete", expanded=bool(run.notes)):
        left, right = st.columns([2, 3], gap="large")
        left.text_input(
            "Name",
            run.name,
            80,
            key=f"name-{run.name}",
            on_change=_rename,
            args=(run,),
            help="Letters, digits, dots, dashes and underscores.",
        )
        left.button("Delete", icon=":material/delete:", on_click=_delete, args=(run,), key=f"delete-{run.name}")
        left.caption(f"A deleted run can be brought back for {DAYS} days.")
        right.text_area(
            "Notes",
            run.notes,
            max_chars=NOTES,
            key=f"notes-{run.name}",
            on_change=_note,
            args=(run,),
            placeholder="What was tried, and what was learned",
            help="Kept in the run's folder and never exported.",
        )


def _rename(run: RunFolder) -> None:
    name = st.session_state[f"name-{run.name}"].strip()
    _try(lambda: shared.look_at(rename_run(run, name).name))
    st.session_state.pop(f"name-{run.name}", None)


def _note(run: RunFolder) -> None:
    _try(lambda: run.write_notes(st.session_state[f"notes-{run.name}"]))


def _delete(run: RunFolder) -> None:
    def delete() -> None:
        st.session_state["deleted"] = delete_run(run)
        shared.look_at(None)

    _try(delete)


def _restore(deleted: Deleted) -> None:
    st.session_state.pop("deleted", None)
    _try(lambda: shared.look_at(restore_run(deleted).name))


def _try(work: Callable[[], object]) -> None:
    """Do what a widget asked for; what goes wrong is said by ``refused``, where the page is drawn again."""
    try:
        work()
    except ShpeftError as error:
        st.session_state["refused"] = error


def refused() -> None:
    """Say what went wrong with the last thing that was asked for."""
    error = st.session_state.pop("refused", None)
    if error is not None:
        shared.complain(error)


# -- the trash


def gone(name: str) -> bool:
    """Whether the run of this name is in the trash; then ``undo`` offers to bring it back."""
    deleted = next((run for run in deleted_runs() if run.name == name), None)
    if deleted is not None:
        st.session_state["deleted"] = deleted
    return deleted is not None


def undo() -> None:
    """Offer to bring back the run that this browser has just deleted or discarded."""
    deleted = st.session_state.get("deleted")
    if deleted is None or not deleted.path.exists():
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.info(f"The run {deleted.name} is in the trash.", icon=":material/delete:", width=480)
        st.button("Undo", on_click=_restore, args=(deleted,), icon=":material/undo:", key="undo")


def trash() -> None:
    """The deleted runs."""
    found = deleted_runs()
    if not found:
        return
    with st.expander(f"Trash ({len(found)})"):
        for deleted in found:
            with st.container(horizontal=True, vertical_alignment="center"):
                st.write(deleted.name)
                st.caption(f"deleted {datetime.fromtimestamp(deleted.when):%Y-%m-%d %H:%M}")
                st.button("Bring back", key=f"back-{deleted.path.name}", on_click=_restore, args=(deleted,))
        st.caption(f"What has been here for {DAYS} days is deleted for good.")
        with st.popover("Empty the trash", icon=":material/delete_forever:"):
            st.write("These runs are deleted for good, with their models and results.")
            st.button("Delete them for good", on_click=empty_trash)


# -- several runs


def compare(runs: Sequence[RunFolder]) -> None:
    """Results of several runs beside each other, and the settings in which they differ."""
    st.header(f"{len(runs)} runs compared", anchor=False)
    finished = [run for run in runs if run.state.status == "finished"]
    if len(finished) > 1:
        _results(finished)
    else:
        st.info("Results can be compared once two of the runs are finished.")
    st.subheader("Settings that differ", anchor=False)
    found = differences([run.config.portable() for run in runs])
    if not found:
        st.caption("There is none: the configurations are the same.")
        return
    names = [run.name for run in runs]
    rows = [
        {"setting": key, **{name: _shown(value) for name, value in zip(names, row, strict=True)}}
        for key, row in found.items()
    ]
    st.dataframe(rows, hide_index=True)


def _results(runs: Sequence[RunFolder]) -> None:
    first, *others = runs
    metrics = {run.name: run.metrics() for run in runs}
    paired = {
        run.name: _paired(first.name, run.name, run.delta_path.stat().st_mtime, first.delta_path.stat().st_mtime)
        for run in others
    }
    rows = []
    for key, title in METRICS.items():
        row = {"measure": title}
        row |= {name: interval(found["finetuned"][key]) if found else "" for name, found in metrics.items()}
        row |= {
            f"{name} − {first.name}": interval(found[key], sign=True)
            for name, found in paired.items()
            if found is not None
        }
        rows.append(row)
    st.dataframe(rows, hide_index=True)
    st.caption(
        "Of the test images, with 95 % intervals. A difference is paired: both runs on the same images, drawn anew "
        "together. Where its interval holds 0, take it as a tie."
    )
    unlike = [name for name, found in paired.items() if found is None]
    if unlike:
        st.warning(
            f"Not tested on the same images as {first.name}: {', '.join(unlike)}. Numbers of different images say "
            "little about which run is better.",
            icon=":material/warning:",
        )


@st.cache_data(show_spinner="Resampling the test images", max_entries=64)
def _paired(first: str, other: str, *_written: float) -> dict[str, dict[str, float | None]] | None:
    """The paired differences other − first; None where they were tested on different images."""
    return paired_difference(find_run(other), find_run(first))


def _shown(value: object) -> str:
    return "" if value is None else str(value)

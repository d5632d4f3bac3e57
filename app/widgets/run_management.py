"""Managing runs: downloads, import, names, notes, the trash, and a comparison of several runs."""

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial

import streamlit as st

from app.widgets import account, layout, session
from shpeft.config import command, differences
from shpeft.errors import ShpeftError
from shpeft.pipeline import paired_difference
from shpeft.reports import CARD_FORMS, card
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
from shpeft.runs.owner import write_owner
from shpeft.runs.trash import DAYS
from shpeft.support.formatting import interval, metrics_of_task
from shpeft.support.markdown import plain

MAX_NOTES = 10_000
"""Characters that notes may have."""


# -- files


def download_buttons(run: RunFolder) -> None:
    """Draw download buttons for the run's files."""
    with st.container(horizontal=True):
        if run.state.status == "finished":
            st.download_button(
                "Trained weights",
                run.delta_path.read_bytes(),
                f"{run.name}.safetensors",
                on_click="ignore",
                icon=":material/download:",
                help="The delta: the trained weights and the classifier, a few kilobytes, all that the backbone needs.",
            )
            st.download_button(
                "Whole run",
                lambda: export_bytes(run),
                f"{run.name}.zip",
                "application/zip",
                on_click="ignore",
                icon=":material/download:",
                help="Everything except the notes in one zip, for *Import a run* on another computer. It contains no "
                "images, no file names and no paths of this computer.",
            )
        st.download_button(
            "Configuration",
            run.config.to_yaml(),
            f"{run.name}.yaml",
            "application/yaml",
            on_click="ignore",
            icon=":material/download:",
            help="`shpeft finetune --config FILE` repeats this run.",
        )


def card_buttons(run: RunFolder) -> None:
    """Draw a download button for each form of the run's model card."""
    with st.container(horizontal=True):
        for form, described in CARD_FORMS.items():
            st.download_button(
                described.title,
                partial(card, run, form),
                f"{run.name}_card{described.suffix}",
                described.mime,
                key=f"card-{form}-{run.name}",
                on_click="ignore",
                icon=":material/download:",
                help=described.help,
            )


def configuration(run: RunFolder) -> None:
    """Draw the run's configuration as YAML and as a command, with paths only on request."""
    with st.expander("Configuration"):
        config = run.config.portable()
        if config != run.config and st.toggle(
            "Show paths on this computer",
            key=f"paths-{run.name}",
            help="Needed to repeat the run with the command below. Leave it off for screenshots.",
        ):
            config = run.config
        st.code(config.to_yaml(), language=None)
        st.caption("The same as a command, without default settings:")
        st.code(command(config), language=None, wrap_lines=True)


def import_button() -> None:
    """Draw the import of a run that was exported elsewhere."""
    with st.popover("Import a run", icon=":material/upload:"):
        file = st.file_uploader("A zip exported as *Whole run*", type="zip", key="import")
        if file is not None and st.session_state.get("imported") != file.file_id:
            with layout.error_boundary():
                run = import_run(file.getvalue())
                write_owner(run.path, account.current())
                st.session_state["imported"] = file.file_id
                session.select_run(run.name)
        if file is not None and st.session_state.get("imported") == file.file_id:
            st.success(f"Imported as {plain(session.selected_run())}.")


# -- names and notes


def name_notes_delete(run: RunFolder) -> None:
    """Draw the run's name and notes, and a button to delete it."""
    if not run.state.read().ended:
        st.caption("You can rename or delete the run when it has ended.")
        return
    if not account.may(run.path):
        st.caption(account.NOT_YOURS)
        if notes := run.notes.read():
            st.markdown(plain(notes))
        return
    with st.expander("Name, notes, delete", expanded=bool(run.notes.read())):
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
        left.caption(f"A deleted run can be restored for {DAYS} days.")
        right.text_area(
            "Notes",
            run.notes.read(),
            max_chars=MAX_NOTES,
            key=f"notes-{run.name}",
            on_change=_note,
            args=(run,),
            placeholder="What you tried and what you learned",
            help="Saved in the run's folder; never exported.",
        )


def _rename(run: RunFolder) -> None:
    name = st.session_state[f"name-{run.name}"].strip()

    def rename() -> None:
        account.check(run.path, f"The run {run.name}")
        session.select_run(rename_run(run, name).name)

    _attempt(rename)
    st.session_state.pop(f"name-{run.name}", None)


def _note(run: RunFolder) -> None:
    def write() -> None:
        account.check(run.path, f"The run {run.name}")
        run.notes.write(st.session_state[f"notes-{run.name}"])

    _attempt(write)


def _delete(run: RunFolder) -> None:
    def delete() -> None:
        account.check(run.path, f"The run {run.name}")
        st.session_state["deleted"] = delete_run(run)
        session.select_run(None)

    _attempt(delete)


def _restore(deleted: Deleted) -> None:
    def restore() -> None:
        account.check(deleted.path, f"The run {deleted.name}")
        session.select_run(restore_run(deleted).name)

    st.session_state.pop("deleted", None)
    _attempt(restore)


def _attempt(action: Callable[[], object]) -> None:
    """Run a widget's action; ``show_failed_action`` shows its error when the page is drawn again."""
    try:
        action()
    except ShpeftError as error:
        st.session_state["action_error"] = error


def show_failed_action() -> None:
    """Show the error of the last action, if it failed."""
    error = st.session_state.pop("action_error", None)
    if error is not None:
        layout.show_error(error)


# -- the trash


def is_in_trash(name: str) -> bool:
    """Check whether the run is in the trash; if so, ``undo_delete`` offers to restore it."""
    deleted = next((run for run in deleted_runs() if run.name == name and account.may(run.path)), None)
    if deleted is not None:
        st.session_state["deleted"] = deleted
    return deleted is not None


def undo_delete() -> None:
    """Offer to restore the run that this browser has just deleted or discarded."""
    deleted = st.session_state.get("deleted")
    if deleted is None or not deleted.path.exists():
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.info(f"The run {plain(deleted.name)} is in the trash.", icon=":material/delete:", width=480)
        st.button("Undo", on_click=_restore, args=(deleted,), icon=":material/undo:", key="undo")


def trash() -> None:
    """Draw the deleted runs; with accounts, one's own."""
    trashed = [deleted for deleted in deleted_runs() if account.may(deleted.path)]
    if not trashed:
        return
    with st.expander(f"Trash ({len(trashed)})"):
        for deleted in trashed:
            with st.container(horizontal=True, vertical_alignment="center"):
                st.write(plain(deleted.name))
                st.caption(f"deleted {datetime.fromtimestamp(deleted.when):%Y-%m-%d %H:%M}")
                st.button("Restore", key=f"restore-{deleted.path.name}", on_click=_restore, args=(deleted,))
        st.caption(f"Runs are deleted for good after {DAYS} days.")
        with st.popover("Empty the trash", icon=":material/delete_forever:"):
            st.write("This deletes these runs for good, with their models and results.")
            st.button("Delete for good", on_click=lambda: _attempt(lambda: empty_trash(account=account.current())))


# -- several runs


def compare_runs(runs: Sequence[RunFolder]) -> None:
    """Draw the results of several runs side by side, and the settings in which they differ."""
    st.header(f"{len(runs)} runs compared", anchor=False)
    finished = [run for run in runs if run.state.status == "finished"]
    if len(finished) > 1:
        _results(finished)
    else:
        st.info("Select at least two finished runs to compare results.")
    st.subheader("Settings that differ", anchor=False)
    settings = differences([run.config.portable() for run in runs])
    if not settings:
        st.caption("None: the configurations are the same.")
        return
    names = [run.name for run in runs]
    rows = [
        {"setting": key, **{name: _cell(value) for name, value in zip(names, row, strict=True)}}
        for key, row in settings.items()
    ]
    st.dataframe(rows, hide_index=True)


def _results(runs: Sequence[RunFolder]) -> None:
    first, *others = runs
    metrics = {run.name: run.metrics.read() for run in runs}
    paired = {
        run.name: _paired(first.name, run.name, run.delta_path.stat().st_mtime, first.delta_path.stat().st_mtime)
        for run in others
    }
    rows = []
    titles: dict[str, str] = {}
    for values in filter(None, metrics.values()):
        titles |= metrics_of_task(values["finetuned"])
    for key, title in titles.items():
        row = {"metric": title}
        row |= {
            name: interval(values["finetuned"][key]) if values and key in values["finetuned"] else ""
            for name, values in metrics.items()
        }
        row |= {
            f"{name} − {first.name}": interval(difference[key], sign=True)
            for name, difference in paired.items()
            if difference is not None
        }
        rows.append(row)
    st.dataframe(rows, hide_index=True, placeholder="")
    st.caption(
        "On the test images, with 95 % intervals. Differences are paired: both runs are resampled on the same images. "
        "If the interval includes 0, treat it as a tie."
    )
    unpaired = [name for name, difference in paired.items() if difference is None]
    if unpaired:
        st.warning(
            f"Tested on other images than {plain(first.name)}: {plain(', '.join(unpaired))}. Results on different "
            "images do not show which run is better.",
            icon=":material/warning:",
        )


@st.cache_data(show_spinner="Resampling the test images", max_entries=64)
def _paired(first: str, other: str, *_modified: float) -> dict[str, dict[str, float | None]] | None:
    """Return the paired differences other − first; None if the runs were tested on different images."""
    return paired_difference(find_run(other), find_run(first))


def _cell(value: object) -> str:
    return "" if value is None else str(value)

"""Runs: all runs with their results, settings, files and notes."""

from datetime import datetime
from typing import Any

import streamlit as st

from app.views.runs.sweeps import show_sweeps
from app.widgets import layout, run_management, run_result, run_status, session
from shpeft.runs import RunFolder, damaged_runs, find_run, list_runs, runs_root
from shpeft.runs.model_card import run_card
from shpeft.support.formatting import interval
from shpeft.support.markdown import code, plain


def table_row(run: RunFolder) -> dict[str, object]:
    """Return the row of a run in the table."""
    state, metrics = run.state.read(), None
    if state.status == "finished":
        metrics = run.metrics.read()
    return {
        "run": run.name,
        "status": run_result.STATUS[state.status][0],
        "dataset": layout.dataset_name(run.config.dataset.source),
        "backbone": run.config.backbone.name,
        "result": run_result.headline(run) if metrics else "",
        "AUROC": _auroc(metrics, "finetuned"),
        "linear probe": _auroc(metrics, "probe"),
        "date": datetime.fromtimestamp(state.started or state.updated),
    }


def _auroc(metrics: dict[str, Any] | None, model: str) -> str:
    """Return the AUROC of a model; empty where the task has none, or before the test."""
    return interval(metrics[model]["macro_auroc"]) if metrics and "macro_auroc" in metrics[model] else ""


st.title("Runs", anchor=False)
run_management.show_failed_action()
runs, damaged, selected = list_runs(), damaged_runs(), list[str]()
addressed = session.selected_run()
if addressed is not None and addressed not in {*(run.name for run in runs), *damaged}:
    session.select_run(None)
    if not run_management.is_in_trash(addressed):
        with layout.error_boundary():
            find_run(addressed)  # raises an error that names the existing runs
run_management.undo_delete()
if not runs:
    st.info("There are no runs yet.")
    st.page_link("views/train/page.py", label="Train a model", icon=":material/arrow_forward:")
else:
    event = st.dataframe(
        [table_row(run) for run in runs],
        hide_index=True,
        on_select="rerun",
        selection_mode="multi-row",
        key="table",
        column_config={"date": st.column_config.DatetimeColumn(format="YYYY-MM-DD HH:mm")},
    )
    st.caption(
        "Select one row to see the run, or several to compare them. AUROC is on the test images, with its 95 % "
        "interval.",
        help=f"Each run is a folder in {code(runs_root().absolute())}. AUROC: how often an image of a class gets a "
        "higher score for that class than another image; 0.5 is guessing, 1 is perfect. The linear probe is the "
        "unchanged backbone with a trained classifier: the baseline that fine-tuning has to beat.",
    )
    selected = [runs[position].name for position in event.selection.rows if position < len(runs)]
    if len(selected) == 1:
        session.select_run(selected[0])
show_sweeps()
for name, reason in damaged.items():
    st.warning(f"{plain(name)} cannot be opened. {plain(reason)}", icon=":material/warning:")
run_management.import_button()
run_management.trash()

by_name = {run.name: run for run in runs}
current = session.selected_run()
if len(selected) > 1:
    run_management.compare_runs([by_name[name] for name in selected])
elif current in by_name:
    session.select_run(current)
    run = by_name[current]
    st.divider()
    run_status.run_overview(run.name, ["importance", "overlap", "evaluate", "diagnose"])
    run_management.download_buttons(run)
    run_management.name_notes_delete(run)
    run_management.configuration(run)
    if card := run_card(run):
        with st.expander("Model card"):
            st.markdown(card)

"""Runs: all runs with their results, settings, files and notes."""

from datetime import datetime
from typing import Any

import streamlit as st

from app.views.runs.sweeps import show_sweeps
from app.widgets import layout, run_management, run_result, run_status, session
from shpeft.runs import RunFolder, damaged_runs, find_run, list_runs, runs_root
from shpeft.runs.model_card import run_card
from shpeft.support.formatting import interval, listed_metric
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
        **_measured(metrics),
        "result": run_result.headline(run) if metrics else "",
        "backbone": run.config.backbone.name,
        "date": datetime.fromtimestamp(state.started or state.updated),
    }


def _measured(metrics: dict[str, Any] | None) -> dict[str, object]:
    """Return the main measure of a run's task by its name, of both models; nothing before the test."""
    if metrics is None:
        return dict.fromkeys(("measure", "value", "95 % interval", "linear probe"))
    name, title = listed_metric(metrics["finetuned"])
    value = metrics["finetuned"][name]
    return {
        "measure": title,
        "value": value["value"],
        "95 % interval": interval(value).partition(" ")[2].strip("[]").replace(", ", " to "),
        "linear probe": metrics["probe"][name]["value"],
    }


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
        placeholder="",  # a run that has not been tested yet
        on_select="rerun",
        selection_mode="multi-row",
        key="table",
        column_config={
            "date": st.column_config.DatetimeColumn(format="YYYY-MM-DD HH:mm"),
            **dict.fromkeys(("value", "linear probe"), st.column_config.NumberColumn(format="%.3f")),
        },
    )
    st.caption(
        "Select one row to see the run, or several to compare them. Each run has the main measure of its task, on the "
        "test images.",
        help=f"Each run is a folder in {code(runs_root().absolute())}. AUROC: how often an image of a class gets a "
        "higher score for that class than another image; 0.5 is guessing, 1 is perfect. Kappa: agreement of grades "
        "beyond chance, where far grades count more; 1 is perfect. MAE: how far a number is off on average, in its "
        "unit; lower is better. The linear probe is the unchanged backbone with a trained classifier: the baseline "
        "that fine-tuning has to beat.",
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
            run_management.card_buttons(run)
            st.markdown(card)

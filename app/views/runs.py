"""Runs: what was done, how it ended, how runs differ, and their files."""

from datetime import datetime

import keeping
import live
import shared
import streamlit as st

from shpeft.runs import RunFolder, damaged_runs, find_run, list_runs
from shpeft.runs.card import interval


def row(run: RunFolder) -> dict[str, object]:
    """A run as a line of the table."""
    state, metrics = run.state, None
    if state.status == "finished":
        metrics = run.metrics()
    return {
        "run": run.name,
        "status": live.ENDED[state.status][0],
        "dataset": shared.source_name(run.config.dataset.source),
        "backbone": run.config.backbone.name,
        "budget": shared.budget_name(run.config.selection.budget),
        "AUROC": interval(metrics["finetuned"]["macro_auroc"]) if metrics else "",
        "linear probe": interval(metrics["probe"]["macro_auroc"]) if metrics else "",
        "date": datetime.fromtimestamp(state.started or state.updated),
    }


st.title("Runs", anchor=False)
keeping.refused()
found, damaged, chosen = list_runs(), damaged_runs(), list[str]()
absent = shared.current_run()
if absent is not None and absent not in {*(run.name for run in found), *damaged}:
    shared.look_at(None)
    if not keeping.gone(absent):
        with shared.boundary():
            find_run(absent)  # says that it is not there, and what is
keeping.undo()
if not found:
    st.info("No run has been made yet.")
    st.page_link("views/train.py", label="Train a model", icon=":material/arrow_forward:")
else:
    event = st.dataframe(
        [row(run) for run in found],
        hide_index=True,
        on_select="rerun",
        selection_mode="multi-row",
        key="table",
        column_config={"date": st.column_config.DatetimeColumn(format="YYYY-MM-DD HH:mm")},
    )
    st.caption(
        "Tick a line to see that run, or several to compare them. AUROC is that of the test images, with its 95 % "
        "interval.",
        help="Each run is a folder of its own among the runs on this computer. AUROC: how often an image of a class "
        "gets a higher score for it than another image; 0.5 is guessing, 1 is perfect. The linear probe is the same "
        "backbone with no weight changed: what fine-tuning has to beat.",
    )
    chosen = [found[position].name for position in event.selection.rows if position < len(found)]
    if len(chosen) == 1:
        shared.look_at(chosen[0])
for name, reason in damaged.items():
    st.warning(f"{name} cannot be opened. {reason}", icon=":material/warning:")
keeping.importer()
keeping.trash()

by_name = {run.name: run for run in found}
current = shared.current_run()
if len(chosen) > 1:
    keeping.compare([by_name[name] for name in chosen])
elif current in by_name:
    shared.look_at(current)
    run = by_name[current]
    st.divider()
    live.show(run.name, ["importance", "overlap", "diagnose"])
    keeping.files(run)
    keeping.manage(run)
    keeping.configuration(run)
    card = run.path / "README.md"
    if card.exists():
        with st.expander("Model card"):
            st.markdown(card.read_text(encoding="utf-8").replace("![", "!\\["))  # no picture from elsewhere

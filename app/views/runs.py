"""Runs: what was done, how it ended, and its files."""

from datetime import datetime

import live
import shared
import streamlit as st

from shpeft.runs import RunFolder, damaged_runs, list_runs
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


def files(run: RunFolder) -> None:
    """The run's files for other programs."""
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
            "Configuration",
            run.config.to_yaml(),
            f"{run.name}.yaml",
            "application/yaml",
            on_click="ignore",
            icon=":material/download:",
            help="`shpeft finetune --config FILE` does the same run again.",
        )


st.title("Runs", anchor=False)
found = list_runs()
if not found:
    st.info("No run has been made yet.")
    st.page_link("views/train.py", label="Train a model", icon=":material/arrow_forward:")
else:
    event = st.dataframe(
        [row(run) for run in found],
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        key="table",
        column_config={"date": st.column_config.DatetimeColumn(format="YYYY-MM-DD HH:mm")},
    )
    st.caption("Tick a line to see that run. AUROC is that of the test images, with its 95 % interval.")
    ticked = [found[position].name for position in event.selection.rows]
    if ticked:
        shared.look_at(ticked[0])
for name, reason in damaged_runs().items():
    st.warning(f"{name} cannot be opened. {reason}", icon=":material/warning:")

by_name = {run.name: run for run in found}
current = shared.current_run()
if current in by_name:
    shared.look_at(current)
    run = by_name[current]
    st.divider()
    live.show(run.name, ["importance", "overlap", "diagnose"])
    files(run)
    with st.expander("Configuration"):
        st.code(run.config.to_yaml(), language="yaml")
    card = run.path / "README.md"
    if card.exists():
        with st.expander("Model card"):
            st.markdown(card.read_text(encoding="utf-8"))
